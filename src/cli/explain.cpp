#include <fmt/core.h>

#include "cli/commands.h"
#include "recipe/error_pages.h"
#include "recipe/keys.h"
#include "recipe/other_tools.h"

namespace retort {

namespace {

std::string other_tool(const std::string& from) {
  if (from == "all") return other_tools_page();
  if (const auto tool = tool_named(from)) return other_keys_table(*tool);
  throw RecipeError(
      fmt::format("--from: expected axolotl, llama-factory, trl or all, found '{}'", printable(from)));
}

// "error WORDS" and "E12": of a message; all else is of keys.
std::string explained(const std::vector<std::string>& given, bool markdown) {
  std::string words;
  const bool error = !given.empty() && given[0] == "error";
  for (size_t i = error; i < given.size(); ++i) words += (words.empty() ? "" : " ") + given[i];
  if (error) return markdown ? error_pages() : explain_error(words);
  if (is_error_number(words)) return explain_error(words);
  return markdown ? recipe_reference() : explain(words);
}

}  // namespace

void add_explain(CLI::App& app, Action& action) {
  struct Options {
    std::vector<std::string> words;
    std::string from;
    bool markdown = false;
  };
  auto* command = app.add_subcommand("explain", "Document the keys of a recipe, or an error");
  auto options = std::make_shared<Options>();
  command->add_option(
      "key", options->words,
      "a key or section, e.g. train.optimizer; a key of Axolotl, LLaMA-Factory or TRL; "
      "words that are looked for; the number of an error, e.g. E12, or error and words of its "
      "message; everything when left out");
  command->add_option("--from", options->from,
                      "what the keys of axolotl, llama-factory or trl are here, as Markdown; all: the page "
                      "docs/from-other-tools.md");
  command->add_flag("--markdown", options->markdown,
                    "the whole reference as docs/recipe-reference.md holds it; of error, docs/errors.md");
  command->callback([options, &action] {
    action = [options] {
      fmt::print("{}", !options->from.empty() ? other_tool(options->from)
                                              : explained(options->words, options->markdown));
      return Exit::done;
    };
  });
}

void add_schema(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("schema", "Print the JSON Schema of recipes, for editors");
  command->callback([&action] {
    action = [] {
      fmt::print("{}\n", recipe_schema().dump(2));
      return Exit::done;
    };
  });
}

}  // namespace retort
