#include "recipe/recipe.h"

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "recipe/keys.h"
#include "recipe/read.h"

namespace retort {

namespace {

// Every key with its value, two spaces a level.
class Printer : public SpecVisitor {
 public:
  std::string text;

 protected:
  void on_field(const std::string& name, Field field, const Rule&, const std::string&) override { line(name + ": " + yaml_value(field)); }
  bool enter_section(const std::string& name, bool, bool present, const std::string&) override {
    if (!present) {
      line(name + ": null");
      return false;
    }
    line(name + ":");
    ++depth_;
    return true;
  }
  void leave_section() override { --depth_; }
  size_t enter_list(const std::string& name, size_t count, const std::string&) override {
    line(name + (count == 0 ? ": []" : ":"));
    ++depth_;
    return count;
  }
  void leave_list() override { --depth_; }
  void enter_item(size_t) override {
    dash_ = true;
    ++depth_;
  }
  void leave_item() override { --depth_; }

 private:
  void line(const std::string& content) {
    if (dash_) text += std::string(static_cast<size_t>(2 * (depth_ - 1)), ' ') + "- " + content + "\n";
    else text += std::string(static_cast<size_t>(2 * depth_), ' ') + content + "\n";
    dash_ = false;
  }
  int depth_ = 0;
  bool dash_ = false;
};

}  // namespace

std::string print_recipe(const Recipe& recipe) {
  Printer printer;
  auto copy = recipe;   // fields() hands out addresses
  copy.fields(printer);
  return printer.text;
}

LoadedRecipe parse_recipe(std::string_view text, const std::string& name, const std::vector<std::string>& overrides) {
  std::vector<Problem> problems;
  auto root = parse_yaml(text, name, problems);
  for (const auto& assignment : overrides) override_yaml(root, assignment, problems);

  std::vector<std::string> paths;
  for (const auto& key : recipe_keys()) paths.push_back(key.path);
  LoadedRecipe loaded;
  loaded.file = name;
  SpecReader reader(root, paths, problems);
  loaded.recipe.fields(reader);
  reader.finish();
  throw_if_any(std::move(problems));
  loaded.resolved = print_recipe(loaded.recipe);
  loaded.sha256 = sha256(loaded.resolved);
  return loaded;
}

LoadedRecipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  auto loaded = parse_recipe(read_text(file, size_t{4} << 20), file.string(), overrides);
  if (loaded.recipe.run.folder.empty()) {
    loaded.recipe.run.folder = (std::filesystem::path("runs") / file.stem()).string();
    loaded.resolved = print_recipe(loaded.recipe);
    loaded.sha256 = sha256(loaded.resolved);
  }
  return loaded;
}

}  // namespace retort
