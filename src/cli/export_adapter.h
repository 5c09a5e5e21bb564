// `retort export --model M --adapter A`: exports without a run.
#pragma once
#include "cli/adapter_option.h"
#include "export/export_spec.h"

namespace retort {

struct AdapterExport {
  ModelSpec model;
  AdapterOptions adapters;
  ExportSpec exports;
  std::string output, chat_template = "auto";
  int64_t threads = 0;
  bool compare = true;
};

Exit export_adapters(const AdapterExport& options);

}  // namespace retort
