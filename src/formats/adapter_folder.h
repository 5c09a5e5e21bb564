// What a folder with an adapter holds, whoever wrote it: PEFT, mlx-lm or retort.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "formats/peft_folder.h"

namespace retort {

// PEFT's or mlx-lm's, by what adapter_config.json says.
PeftAdapter open_adapter_folder(const std::filesystem::path& folder);

// The same in the words of a recipe's adapter section.
struct AdapterSummary {
  std::string kind;  // lora, rslora, dora
  int64_t rank = 0;  // where rank_pattern says nothing else
  double alpha = 0, dropout = 0;
  std::vector<std::string> targets;  // names of layers; whole ones where only some of a name are adapted
  std::vector<std::string> modules_to_save;
  std::vector<std::string> trainable_tokens = {};  // ids, rising
  bool trainable_tokens_head = false;
  int64_t layers = 0;    // adapted ones
  int64_t elements = 0;  // numbers in all
};
AdapterSummary summary_of(const PeftAdapter& adapter);

// The files of an adapter: what is read of a folder, or the GGUF file itself. FormatError when nothing is
// there.
std::vector<std::filesystem::path> adapter_files(const std::filesystem::path& path);

}  // namespace retort
