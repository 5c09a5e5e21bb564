#include "cli/spec_options.h"

#include <algorithm>
#include <charconv>

namespace retort {

namespace {

bool in_range(double value, const Rule& rule) {
  return (rule.low_open ? value > rule.low : value >= rule.low) &&
         (rule.high_open ? value < rule.high : value <= rule.high);
}

template <class Number> bool is_number(const std::string& text, const Rule& rule) {
  Number value{};
  const auto* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, value);
  return code == std::errc{} && rest == end && in_range(static_cast<double>(value), rule);
}

bool fits(const std::string& text, const Field& field, const Rule& rule) {
  if (std::holds_alternative<int64_t*>(field)) return is_number<int64_t>(text, rule);
  if (std::holds_alternative<double*>(field)) return is_number<double>(text, rule);
  if (!rule.one_of.empty())
    return std::find(rule.one_of.begin(), rule.one_of.end(), text) != rule.one_of.end();
  return !(rule.not_empty && text.empty());
}

}  // namespace

void SpecOptions::on_field(const std::string& name, Field field, const Rule& rule,
                           const std::string& documentation) {
  if (std::find(without_.begin(), without_.end(), name) != without_.end()) return;
  auto option_name = "--" + name;
  std::replace(option_name.begin(), option_name.end(), '_', '-');
  std::visit(
      [&](auto* member) {
        using Member = std::decay_t<decltype(*member)>;
        auto says = documentation;
        if constexpr (std::is_same_v<Member, bool>) {
          command_.add_flag(option_name + ",!--no-" + option_name.substr(2), *member, says);
        } else if constexpr (!std::is_same_v<Member, NamedValues>) {
          if constexpr (std::is_same_v<Member, int64_t> || std::is_same_v<Member, double> ||
                        std::is_same_v<Member, std::string>) {
            if (const auto standard = yaml_value(field); standard != "\"\"")
              says += "; " + standard + " unless given";
          }
          auto* option = command_.add_option(option_name, *member, says);
          option->check([field, rule](const std::string& text) {
            return fits(text, field, rule)
                       ? std::string()
                       : fmt::format("expected {}, found '{}'", expected(field, rule), printable(text));
          });
          option->type_name(std::holds_alternative<int64_t*>(field)  ? "N"
                            : std::holds_alternative<double*>(field) ? "X"
                                                                     : "TEXT");
          if constexpr (std::is_same_v<Member, std::vector<std::string>>)
            option->allow_extra_args(false);  // one a time: --stop A --stop B
        }
      },
      field);
}

}  // namespace retort
