#include <fmt/core.h>

#include "cli/commands.h"
#include "recipe/keys.h"

namespace retort {

void add_explain(CLI::App& app, Action& action) {
  struct Options {
    std::string key;
    bool markdown = false;
  };
  auto* command = app.add_subcommand("explain", "Document the keys of a recipe");
  auto options = std::make_shared<Options>();
  command->add_option("key", options->key,
                      "a key or section, e.g. train.optimizer; everything when left out");
  command->add_flag("--markdown", options->markdown,
                    "the whole reference as docs/recipe-reference.md holds it");
  command->callback([options, &action] {
    action = [options] {
      fmt::print("{}", options->markdown ? recipe_reference() : explain(options->key));
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
