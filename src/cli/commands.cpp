#include "cli/commands.h"

#include <algorithm>

namespace retort {

namespace {

constexpr void (*kCommands[])(CLI::App&, Action&) = {
    add_demo,   add_init, add_run,     add_check,    add_samples,    add_plan,   add_train, add_teach,
    add_prune,  add_eval, add_export,  add_generate, add_inspect,    add_verify, add_prove, add_trace,
    add_forget, add_sbom, add_explain, add_schema,   add_completion, add_man};

// CLI11 only says that a command is missing.
std::string what_is_wrong(const CLI::App& app, int argc, const char* const* argv, const std::string& error) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  if (names.empty() || argc < 2 || argv[1][0] == '-' ||
      std::find(names.begin(), names.end(), argv[1]) != names.end())
    return error;
  const auto near = nearest(argv[1], names);
  return fmt::format("'{}' is no command{}", printable(argv[1]),
                     near.empty() ? "" : fmt::format("; did you mean '{}'?", near));
}

}  // namespace

std::unique_ptr<CLI::App> bare_program(const std::string& name, const std::string& description) {
  auto app = std::make_unique<CLI::App>(description, name);
  app->set_version_flag("--version", name + " " RETORT_VERSION, "print the version and exit");
  app->set_help_flag("-h,--help", "print this help and exit");
  return app;
}

std::unique_ptr<CLI::App> make_app(Action& action) {
  auto app = bare_program("retort",
                          "Turns open base weights into a model that is yours: fine-tunes by a recipe, "
                          "evaluates, exports quantized checkpoints.");
  app->require_subcommand(1);
  for (const auto add : kCommands) add(*app, action);
  return app;
}

std::optional<Exit> parse_command_line(CLI::App& app, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error), Exit::done;  // --help, --version
    const auto chosen = app.get_subcommands();
    const std::string name =
        chosen.empty() ? app.get_name() : app.get_name() + " " + chosen.front()->get_name();
    auto problem = what_is_wrong(app, argc, argv, error.what());
    std::replace(problem.begin(), problem.end(), '\n', ' ');
    throw RecipeError(fmt::format("{}; `{} --help` shows what it takes", problem, name));
  }
}

}  // namespace retort
