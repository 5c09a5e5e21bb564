// A spec's fields as options of a command: "--top-k" with the rule and the sentence that recipes use.
#pragma once
#include "cli/commands.h"
#include "spec/spec_visitor.h"

namespace retort {

class SpecOptions : public SpecVisitor {
 public:
  SpecOptions(CLI::App& command, std::vector<std::string> without)
      : command_(command), without_(std::move(without)) {}

 protected:
  void on_field(const std::string& name, Field field, const Rule& rule,
                const std::string& documentation) override;
  bool enter_section(const std::string&, bool, bool, const std::string&) override { return false; }
  void leave_section() override {}
  size_t enter_list(const std::string&, size_t, const std::string&) override { return 0; }
  void leave_list() override {}
  void enter_item(size_t) override {}
  void leave_item() override {}

 private:
  CLI::App& command_;
  std::vector<std::string> without_;
};

// All fields but those named. The spec must live until the command line is parsed.
template <class Spec>
void add_spec_options(CLI::App& command, Spec& spec, std::vector<std::string> without = {}) {
  SpecOptions options(command, std::move(without));
  spec.fields(options);
}

}  // namespace retort
