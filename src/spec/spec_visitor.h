// Turns the field lists of specs (base/fields.h), which are templates, into calls of a few virtual functions,
// so that the reader, the printer, the documentation and the schema are ordinary classes.
#pragma once
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "spec/fields.h"

namespace retort {

// A member of a spec, by address.
using Field =
    std::variant<bool*, int64_t*, double*, std::string*, std::vector<int64_t>*, std::vector<double>*,
                 std::vector<std::string>*, std::optional<bool>*, std::optional<int64_t>*,
                 std::optional<double>*, std::optional<std::string>*, NamedValues*>;

class SpecVisitor {
 public:
  virtual ~SpecVisitor() = default;

  template <class Member>
  void operator()(const char* name, Member& member, const Rule& rule, const char* documentation) {
    on_field(name, Field(&member), rule, documentation);
  }
  template <class Spec> void section(const char* name, Spec& spec, const char* documentation) {
    enter_section(name, true, true, documentation);
    spec.fields(*this);
    leave_section();
  }
  template <class Spec> void section(const char* name, std::optional<Spec>& spec, const char* documentation) {
    if (!enter_section(name, false, spec.has_value(), documentation)) return spec.reset();
    if (!spec) spec.emplace();
    spec->fields(*this);
    leave_section();
  }
  template <class Spec> void list(const char* name, std::vector<Spec>& specs, const char* documentation) {
    specs.resize(enter_list(name, specs.size(), documentation));
    for (size_t i = 0; i < specs.size(); ++i) {
      enter_item(i);
      specs[i].fields(*this);
      leave_item();
    }
    leave_list();
  }

 protected:
  virtual void on_field(const std::string& name, Field field, const Rule& rule,
                        const std::string& documentation) = 0;
  // False: the section is not walked, and an optional one is absent afterwards.
  virtual bool enter_section(const std::string& name, bool always, bool present,
                             const std::string& documentation) = 0;
  virtual void leave_section() = 0;
  virtual size_t enter_list(const std::string& name, size_t count,
                            const std::string& documentation) = 0;  // items to walk
  virtual void leave_list() = 0;
  virtual void enter_item(size_t index) = 0;
  virtual void leave_item() = 0;
};

// "a whole number from 1 to 1024", "one of lora, dora", "a list of texts, not empty"
std::string expected(const Field& field, const Rule& rule);

// The value as YAML that reads back equal: 16, 2.0e-4, true, "text", ["a", "b"]; "null" for an absent
// optional.
std::string yaml_value(const Field& field);
std::string yaml_text(const std::string& text);
std::string shortest(double value);  // round-trips

}  // namespace retort
