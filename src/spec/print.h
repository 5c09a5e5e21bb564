// A spec as YAML that reads back equal: every key with its value, two spaces a level.
#pragma once
#include <string>

#include "spec/spec_visitor.h"

namespace retort {

class SpecPrinter : public SpecVisitor {
 public:
  std::string text;

 protected:
  void on_field(const std::string& name, Field field, const Rule& rule,
                const std::string& documentation) override;
  bool enter_section(const std::string& name, bool always, bool present,
                     const std::string& documentation) override;
  void leave_section() override { --depth_; }
  size_t enter_list(const std::string& name, size_t count, const std::string& documentation) override;
  void leave_list() override { --depth_; }
  void enter_item(size_t index) override;
  void leave_item() override { --depth_; }

 private:
  void line(const std::string& content);
  int depth_ = 0;
  bool dash_ = false;
};

template <class Spec> std::string print_spec(Spec spec) {  // a copy: fields() hands out addresses
  SpecPrinter printer;
  spec.fields(printer);
  return printer.text;
}

}  // namespace retort
