#include "cli/commands.h"

namespace retort {

namespace {

constexpr void (*kCommands[])(CLI::App&, Action&) = {add_explain, add_schema, add_completion, add_man};

}  // namespace

std::unique_ptr<CLI::App> make_app(Action& action) {
  auto app = std::make_unique<CLI::App>("Turns open base weights into a model that is yours: fine-tunes by a recipe, evaluates, exports quantized checkpoints.", "retort");
  app->set_version_flag("--version", "retort " RETORT_VERSION, "print the version and exit");
  app->set_help_flag("-h,--help", "print this help and exit");
  app->require_subcommand(1);
  app->failure_message([](const CLI::App* failed, const CLI::Error& error) {
    return fmt::format("retort: {}; `{} --help` shows what it takes\n", error.what(), failed->get_parent() ? "retort " + failed->get_name() : "retort");
  });
  for (const auto add : kCommands) add(*app, action);
  return app;
}

}  // namespace retort
