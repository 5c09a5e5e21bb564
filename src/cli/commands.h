// The commands of `retort`: one file each, listed once in commands.cpp. The help, the shell completions and
// the man page are made from what CLI11 knows about them.
#pragma once
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"

namespace retort {

// What the chosen command does; set while the command line is parsed, called afterwards.
using Action = std::function<Exit()>;

void add_run(CLI::App& app, Action& action);
void add_demo(CLI::App& app, Action& action);
void add_init(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_samples(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_check(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_teach(CLI::App& app, Action& action);
void add_prune(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_prove(CLI::App& app, Action& action);
void add_trace(CLI::App& app, Action& action);
void add_forget(CLI::App& app, Action& action);
void add_sbom(CLI::App& app, Action& action);
void add_explain(CLI::App& app, Action& action);
void add_schema(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);
void add_man(CLI::App& app, Action& action);

// A program without commands: its help and its version.
std::unique_ptr<CLI::App> bare_program(const std::string& name, const std::string& description);
// The program with all its commands.
std::unique_ptr<CLI::App> make_app(Action& action);
// What main() offers: all commands (program.cpp: retort, retort-online) or the only one (import.cpp:
// retort-import).
std::unique_ptr<CLI::App> make_program(Action& action);
// Chooses the action; an exit when there is nothing to do (--help). RecipeError for anything that is not
// understood.
std::optional<Exit> parse_command_line(CLI::App& app, int argc, const char* const* argv);

// Shell code that completes commands, options and recipe keys. `shell`: bash, zsh or fish.
std::string completion(const CLI::App& app, const std::string& shell);
// The manual page, in roff.
std::string man_page(const CLI::App& app);

}  // namespace retort
