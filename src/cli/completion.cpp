// Shell completions and the man page, from the commands themselves.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <ctime>

#include "cli/commands.h"
#include "recipe/keys.h"

namespace retort {

namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// "--steps" and "-n" of a command, without positionals.
std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const auto* option : command.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
    for (const auto& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

bool takes_recipe(const CLI::App& command) {
  const auto options = command.get_options();
  return std::any_of(options.begin(), options.end(),
                     [](const CLI::Option* option) { return option->get_name() == "recipe"; });
}

std::string recipe_assignments() {
  std::vector<std::string> words;
  for (const auto& key : recipe_keys()) {
    if (!key.section && key.path.find('[') == std::string::npos) words.push_back(key.path + "=");
  }
  return fmt::format("{}", fmt::join(words, " "));
}

std::string single_quoted(const std::string& text) {
  std::string quoted;
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + quoted + "'";
}

std::string bash_completion(const CLI::App& app) {
  std::string names, cases;
  for (const auto* command : commands_of(app)) {
    names += (names.empty() ? "" : " ") + command->get_name();
    cases += fmt::format("    {}) words=\"{}{}\" ;;\n", command->get_name(),
                         fmt::join(option_names(*command), " "), takes_recipe(*command) ? " $keys" : "");
  }
  return fmt::format(
      "# bash completion for retort; load it with: source <(retort completion bash)\n"
      "_retort() {{\n"
      "  local current=${{COMP_WORDS[COMP_CWORD]}} words= keys=\"{}\"\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then COMPREPLY=($(compgen -W \"{} --help --version\" -- "
      "\"$current\")); return; fi\n"
      "  case ${{COMP_WORDS[1]}} in\n{}  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\") $(compgen -f -- \"$current\"))\n"
      "  [ ${{#COMPREPLY[@]}} -eq 1 ] && [ \"${{COMPREPLY[0]: -1}}\" = = ] && compopt -o nospace\n"
      "}}\n"
      "complete -o filenames -F _retort retort\n",
      recipe_assignments(), names, cases);
}

std::string zsh_completion(const CLI::App& app) {
  std::string names, cases;
  for (const auto* command : commands_of(app)) {
    names += fmt::format("    {}\n", single_quoted(command->get_name() + ":" + command->get_description()));
    cases += fmt::format("    {}) compadd -- {}; {}_files ;;\n", command->get_name(),
                         fmt::join(option_names(*command), " "),
                         takes_recipe(*command) ? "compadd -S '' -- $keys; " : "");
  }
  return fmt::format(
      "#compdef retort\n"
      "# zsh completion for retort; put it in a folder of $fpath as _retort\n"
      "_retort() {{\n"
      "  local -a commands keys\n"
      "  commands=(\n{}  )\n"
      "  keys=({})\n"
      "  if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
      "  case $words[2] in\n{}  esac\n"
      "}}\n"
      "_retort \"$@\"\n",
      names, recipe_assignments(), cases);
}

std::string fish_completion(const CLI::App& app) {
  std::string text = "# fish completion for retort; put it in ~/.config/fish/completions/retort.fish\n";
  for (const auto* command : commands_of(app)) {
    text += fmt::format("complete -c retort -n __fish_use_subcommand -f -a {} -d {}\n", command->get_name(),
                        single_quoted(command->get_description()));
    for (const auto* option : command->get_options()) {
      for (const auto& name : option->get_lnames()) {
        text += fmt::format("complete -c retort -n '__fish_seen_subcommand_from {}' -l {} -d {}\n",
                            command->get_name(), name, single_quoted(option->get_description()));
      }
    }
    if (takes_recipe(*command)) {
      text += fmt::format("complete -c retort -n '__fish_seen_subcommand_from {}' -a {}\n",
                          command->get_name(), single_quoted(recipe_assignments()));
    }
  }
  return text;
}

// Roff text: a leading dot or quote would be a request, a backslash an escape.
std::string roff(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') escaped += "\\e";
    else if (c == '-') escaped += "\\-";
    else escaped += c;
  }
  if (!escaped.empty() && (escaped[0] == '.' || escaped[0] == '\'')) escaped.insert(0, "\\&");
  return escaped;
}

std::string synopsis(const CLI::App& command) {
  std::string text;
  for (const auto* option : command.get_options()) {
    if (!option->nonpositional() && option->get_positional()) {
      const auto name = option->get_name() + (option->get_expected_max() > 1 ? " ..." : "");
      text += option->get_required() ? fmt::format(" {}", name) : fmt::format(" [{}]", name);
    }
  }
  return text;
}

}  // namespace

std::string completion(const CLI::App& app, const std::string& shell) {
  if (shell == "bash") return bash_completion(app);
  if (shell == "zsh") return zsh_completion(app);
  if (shell == "fish") return fish_completion(app);
  throw RecipeError(fmt::format("completion: expected bash, zsh or fish, found '{}'", printable(shell)));
}

std::string man_page(const CLI::App& app) {
  std::string text = fmt::format(
      ".TH RETORT 1 \"\" \"retort {}\" \"User Commands\"\n.SH NAME\nretort \\- fine\\-tune open weights by a "
      "recipe and export quantized checkpoints\n"
      ".SH SYNOPSIS\n.B retort\n.I command\n[\\fIarguments\\fR]\n.SH DESCRIPTION\n{}\nA recipe is a YAML "
      "file; \\fBretort explain\\fR documents its keys. "
      "Any key can be set on the command line as \\fIkey.path=value\\fR.\n.SH COMMANDS\n",
      RETORT_VERSION, roff(app.get_description()));
  for (const auto* command : commands_of(app)) {
    text += fmt::format(".SS \"retort {}{}\"\n{}.\n", roff(command->get_name()), roff(synopsis(*command)),
                        roff(command->get_description()));
    for (const auto* option : command->get_options()) {
      if (option->get_name() == "--help") continue;
      text += fmt::format(".TP\n.B {}\n{}\n", roff(option->get_name(option->get_positional(), true)),
                          roff(option->get_description()));
    }
  }
  text +=
      ".SH EXIT STATUS\n.TP\n.B 0\ndone\n.TP\n.B 1\na gate of the recipe was missed: the model is not good "
      "enough\n.TP\n.B 2\nbad input: a recipe, a file or the command line\n"
      ".TP\n.B 3\nthe machine failed: disk full, out of memory\n.TP\n.B 75\nstopped by SIGINT or SIGTERM "
      "with everything saved; the same command continues\n"
      ".SH FILES\n.TP\n.I runs/NAME\nthe run directory of recipe NAME: resolved recipe, checkpoints, "
      "metrics, report.html, exports, manifest.json\n";
  return text;
}

void add_completion(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("completion", "Print shell completions");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash, zsh or fish")->required();
  command->callback([shell, &app, &action] {
    action = [shell, &app] {
      fmt::print("{}", completion(app, *shell));
      return Exit::done;
    };
  });
}

void add_man(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("man", "Print the manual page (roff): retort man | man -l -");
  command->callback([&app, &action] {
    action = [&app] {
      fmt::print("{}", man_page(app));
      return Exit::done;
    };
  });
}

}  // namespace retort
