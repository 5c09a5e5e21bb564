#include "recipe/translate.h"

#include <filesystem>

#include "base/error.h"
#include "recipe/translate_draft.h"
#include "spec/read.h"
#include "spec/spec_visitor.h"

namespace retort {

namespace {

Tool kind_of(const YamlNode& root, const std::string& file) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : root.entries) keys.push_back(key.text);
  const auto found = whose_keys(keys);
  if (found.tool) return *found.tool;
  throw RecipeError(fmt::format(
      "{}: {}; say which it is with --kind axolotl, llama-factory or trl", printable(file),
      found.own == 0 ? "holds no key of Axolotl, LLaMA-Factory or TRL" : "holds keys of several tools"));
}

std::string comments(const std::string& heading, const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  auto text = fmt::format("\n# {}\n", heading);
  for (const auto& line : lines) text += fmt::format("#   {}\n", comment_line(line));
  return text;
}

}  // namespace

Translation translate_recipe(std::string_view text, const std::string& file,
                             const TranslateOptions& options) {
  std::vector<Problem> problems;
  const auto root = parse_yaml(text, file, problems);
  throw_if_any(std::move(problems));
  if (root.kind != YamlNode::Kind::map)
    throw RecipeError(fmt::format("{}: expected keys and values, found {}", printable(file), shown(root)));
  const auto named = tool_named(options.kind);
  if (!named && !options.kind.empty())
    throw RecipeError(
        fmt::format("--kind: expected axolotl, llama-factory or trl, found '{}'", printable(options.kind)));
  const auto tool = named ? *named : kind_of(root, file);
  Draft draft(root, tool, file, options);
  draft.out.set("about",
                yaml_text(fmt::format("What {} asks {} for", std::filesystem::path(file).filename().string(),
                                      name_of(tool))));
  if (tool == Tool::axolotl) translate_axolotl(draft);
  else if (tool == Tool::llama_factory) translate_llama_factory(draft);
  else translate_trl(draft);
  draft.leave_the_rest();
  Translation made{tool, "", draft.look_here, draft.left_out};
  made.recipe = fmt::format(
      "# Translated from {} of {} by `retort init --from`: behind a value stands the key that it came from.\n"
      "# `retort check` shows the samples as the model meets them and says what a run takes.\n{}{}",
      printable(file), name_of(tool), draft.out.text(),
      comments("Without a counterpart here:", made.left_out));
  return made;
}

}  // namespace retort
