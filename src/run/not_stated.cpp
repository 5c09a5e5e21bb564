#include "run/not_stated.h"

#include <fmt/core.h>

#include "spec/spec_visitor.h"

namespace retort {
namespace {

bool is_empty(const Field& field) {
  if (const auto* const* text = std::get_if<std::string*>(&field)) return (*text)->empty();
  if (const auto* const* texts = std::get_if<std::vector<std::string>*>(&field)) return (*texts)->empty();
  if (const auto* const* number = std::get_if<double*>(&field)) return **number == 0;
  return false;
}

// The keys of a section without lists of sections.
class EmptyKeys : public SpecVisitor {
 public:
  EmptyKeys(std::string prefix, StatedKeys& found) : prefix_(std::move(prefix)), found_(found) {}

 protected:
  void on_field(const std::string& name, Field field, const Rule&,
                const std::string& documentation) override {
    ++found_.asked;
    if (is_empty(field)) found_.empty.push_back({prefix_ + name, documentation});
  }
  bool enter_section(const std::string& name, bool, bool, const std::string&) override {
    prefix_ += name + ".";
    return true;
  }
  void leave_section() override {
    prefix_.pop_back();
    prefix_.erase(prefix_.rfind('.') + 1);
  }
  size_t enter_list(const std::string&, size_t, const std::string&) override { return 0; }
  void leave_list() override {}
  void enter_item(size_t) override {}
  void leave_item() override {}

 private:
  std::string prefix_;
  StatedKeys& found_;
};

}  // namespace

StatedKeys stated_keys(const Recipe& recipe) {
  StatedKeys found;
  const auto ask = [&](const char* key, bool empty, const char* what) {
    ++found.asked;
    if (empty) found.empty.push_back({key, what});
  };
  ask("about", recipe.about.empty(), "what this run is for");
  ask("eval.tasks", recipe.eval.tasks.empty(), "what is measured before and after the training");
  ask("gate", recipe.gate.empty(), "bounds that the scores must hold");
  auto card = recipe.card;  // fields() hands out addresses
  EmptyKeys visitor("card.", found);
  card.fields(visitor);
  return found;
}

Table not_stated_table(const Recipe& recipe) {
  const auto [asked, empty] = stated_keys(recipe);
  Table table{
      "Not stated",
      fmt::format("Readers of this record may ask for {} things that only the recipe can say; {} of them are "
                  "empty. Whether the others are right, no program can tell.",
                  asked, empty.size()),
      {"key", "what belongs there"},
      {},
      true};
  for (const auto& [key, what] : empty) table.rows.push_back({key, what});
  return table;
}

}  // namespace retort
