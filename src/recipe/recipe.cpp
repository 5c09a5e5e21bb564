#include "recipe/recipe.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/tell.h"
#include "recipe/from_adapter.h"
#include "recipe/keys.h"
#include "recipe/other_tools.h"
#include "recipe/relations.h"
#include "recipe/renamed.h"
#include "spec/print.h"
#include "spec/read.h"
#include "spec/spec_visitor.h"

namespace retort {

namespace {

// What data.train_on says of thoughts, said of each source that leaves it open.
void settle_reasoning(Recipe& recipe) {
  const auto& wanted = recipe.data.train_on.reasoning;
  if (wanted == "by_source") return;
  const auto settle = [&](SourceSpec& source) {
    if (source.reasoning == "refuse") source.reasoning = wanted;
  };
  for (auto& source : recipe.data.sources) settle(source);
  for (auto& task : recipe.eval.tasks)
    if (task.source) settle(*task.source);
}

// "prompt={note}" is a text with a brace, as all texts are on a command line, and no map: what is written for
// a key that takes a text stands in quotes. A section's keys in braces stay as they are.
std::string with_quotes(const std::string& assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals + 1 == assignment.size()) return assignment;
  const char first = assignment[equals + 1];
  if (first != '{' && first != '[') return assignment;
  std::string path;  // data.sources.0.prompt and data.sources[0].prompt are data.sources[].prompt
  for (size_t i = 0; i < equals; ++i) {
    const char c = assignment[i];
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (c == '[') path += '.';
    else if (c != ']' && !(digit && path.ends_with("[]"))) {
      if (digit && path.ends_with('.')) path.back() = '[', path += ']';
      else path += c;
    }
  }
  for (const auto& key : recipe_keys())
    if (key.path == path && key.expected.starts_with("text"))
      return assignment.substr(0, equals + 1) + yaml_text(assignment.substr(equals + 1));
  return assignment;
}

// Of a private recipe nothing that a model or a program says about a sample is kept, since it may say the
// sample.
void settle_private(Recipe& recipe) {
  for (auto& task : recipe.eval.tasks) {
    task.keeps_texts = !recipe.is_private;
    if (task.scored_by) task.scored_by->told = !recipe.is_private;
  }
}

// Another tool's configuration would be a line for each of its keys: instead, the command that translates it.
// A recipe with a section of ours among them is one of ours, and hears of each key.
void refuse_other_tools(const YamlNode& root, const std::vector<std::string>& paths,
                        const std::string& name) {
  constexpr int kFew = 3;
  std::vector<std::string> all, theirs;
  for (const auto& [key, value] : root.entries) {
    const bool ours = std::find(paths.begin(), paths.end(), key.text) != paths.end();
    if (ours && value.kind == YamlNode::Kind::map) return;
    all.push_back(key.text);
    if (!ours) theirs.push_back(key.text);
  }
  if (whose_keys(theirs).known < kFew) return;
  const auto tool = whose_keys(all).tool;
  const auto file = printable(name);
  throw RecipeError(fmt::format(
      "{}: looks like a configuration of {}; `retort init --from {}{}` translates it", file,
      tool ? name_of(*tool) : "another tool", file, tool ? "" : " --kind axolotl|llama-factory|trl"));
}

}  // namespace

LoadedRecipe parse_recipe(std::string_view text, const std::string& name,
                          const std::vector<std::string>& overrides) {
  std::vector<Problem> problems;
  auto root = parse_yaml(text, name, problems);
  std::vector<std::string> paths;
  for (const auto& key : recipe_keys()) paths.push_back(key.path);
  LoadedRecipe loaded;
  rename_old_keys(root, loaded.notes);
  for (const auto& assignment : overrides)
    override_yaml(root, with_quotes(with_name_now(assignment, loaded.notes)), problems);
  rename_old_keys(root, loaded.notes);

  refuse_other_tools(root, paths, name);
  loaded.file = name;
  SpecReader reader(root, paths, problems, counterpart);
  loaded.recipe.fields(reader);
  reader.finish();
  settle_reasoning(loaded.recipe);
  settle_private(loaded.recipe);
  if (problems.empty()) take_from_adapter(loaded.recipe.adapter, root, problems);
  if (problems.empty())
    check_relations(loaded.recipe, root, problems);  // a misspelt key would show up there again
  throw_if_any(std::move(problems));
  loaded.resolved = print_spec(loaded.recipe);
  loaded.sha256 = sha256(loaded.resolved);
  return loaded;
}

LoadedRecipe load_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  auto loaded = parse_recipe(read_text(file, size_t{4} << 20), file.string(), overrides);
  for (const auto& note : loaded.notes) tell("note         " + note);
  if (loaded.recipe.run.folder.empty()) {
    loaded.recipe.run.folder = (std::filesystem::path("runs") / file.stem()).string();
    loaded.resolved = print_spec(loaded.recipe);
    loaded.sha256 = sha256(loaded.resolved);
  }
  return loaded;
}

}  // namespace retort
