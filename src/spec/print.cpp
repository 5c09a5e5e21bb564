#include "spec/print.h"

namespace retort {

void SpecPrinter::on_field(const std::string& name, Field field, const Rule&, const std::string&) {
  line(name + ": " + yaml_value(field));
}

bool SpecPrinter::enter_section(const std::string& name, bool, bool present, const std::string&) {
  line(name + (present ? ":" : ": null"));
  if (present) ++depth_;
  return present;
}

size_t SpecPrinter::enter_list(const std::string& name, size_t count, const std::string&) {
  line(name + (count == 0 ? ": []" : ":"));
  ++depth_;
  return count;
}

void SpecPrinter::enter_item(size_t) {
  dash_ = true;
  ++depth_;
}

void SpecPrinter::line(const std::string& content) {
  const int indent = dash_ ? depth_ - 1 : depth_;
  text += std::string(static_cast<size_t>(2 * indent), ' ') + (dash_ ? "- " : "") + content + "\n";
  dash_ = false;
}

}  // namespace retort
