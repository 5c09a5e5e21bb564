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

// What a word `key=value` of a recipe may be. The keys of a list are those of its first entry, which scripts
// take for any: data.sources.0.path=.
struct Setting {
  std::string key;
  std::vector<std::string> values;  // where there are few
};
std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const auto& key : recipe_keys()) {
    if (key.section) continue;
    auto path = key.path;
    for (size_t at = 0; (at = path.find("[]", at)) != std::string::npos;) path.replace(at, 2, ".0");
    all.push_back({path, key.words});
  }
  return all;
}

std::string setting_words() {
  std::vector<std::string> words;
  for (const auto& setting : settings()) words.push_back(setting.key + "=");
  return fmt::format("{}", fmt::join(words, " "));
}

std::string single_quoted(const std::string& text) {
  std::string quoted;
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + quoted + "'";
}

std::string all_quoted(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + single_quoted(word);
  return text;
}

// The word before the last may be the key: = ends a word in bash unless COMP_WORDBREAKS lacks it.
std::string bash_completion(const CLI::App& app) {
  std::string names, cases, values;
  for (const auto* command : commands_of(app)) {
    names += (names.empty() ? "" : " ") + command->get_name();
    cases += fmt::format("    {}) words=\"{}\"{} ;;\n", command->get_name(),
                         fmt::join(option_names(*command), " "), takes_recipe(*command) ? " recipe=1" : "");
  }
  for (const auto& [key, words] : settings())
    if (!words.empty())
      values +=
          fmt::format("    {}) echo {} ;;\n", key, single_quoted(fmt::format("{}", fmt::join(words, " "))));
  return fmt::format(
      "# bash completion for retort; load it with: source <(retort completion bash)\n"
      "_retort_values() {{\n"
      "  case $1 in\n{}  esac\n"
      "}}\n"
      "_retort() {{\n"
      "  local current=${{COMP_WORDS[COMP_CWORD]}} words= recipe= key= before= keys=\"{}\"\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then COMPREPLY=($(compgen -W \"{} --help --version\" -- "
      "\"$current\")); return; fi\n"
      "  case ${{COMP_WORDS[1]}} in\n{}  esac\n"
      "  if [ \"$current\" = = ]; then key=${{COMP_WORDS[COMP_CWORD-1]}} current=\n"
      "  elif [ \"${{COMP_WORDS[COMP_CWORD-1]}}\" = = ]; then key=${{COMP_WORDS[COMP_CWORD-2]}}\n"
      "  elif [[ $current == *=* ]]; then\n"
      "    key=${{current%%=*}} before=${{current%%=*}}= current=${{current#*=}}\n"
      "  fi\n"
      "  # Keys of a list's entry are known by those of entry 0; a[1].b is a.1.b.\n"
      "  local shape=${{key:-$current}} list= index=\n"
      "  shape=${{shape//\\[/.}} shape=${{shape//\\]/}}\n"
      "  if [[ $shape =~ ^([a-z_.]*)\\.([0-9]+)(\\..*)?$ ]]; then\n"
      "    list=${{BASH_REMATCH[1]}} index=${{BASH_REMATCH[2]}} shape=$list.0${{BASH_REMATCH[3]}}\n"
      "  fi\n"
      "  if [ -n \"$key\" ]; then\n"
      "    COMPREPLY=($(compgen -P \"$before\" -W \"$(_retort_values \"$shape\")\" -- \"$current\"))\n"
      "  else\n"
      "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
      "    if [ -n \"$recipe\" ] && [ \"$COMP_CWORD\" -gt 2 ]; then\n"
      "      COMPREPLY+=($(compgen -W \"$keys\" -- \"$shape\"))\n"
      "      [ -n \"$index\" ] && COMPREPLY=(\"${{COMPREPLY[@]/#$list.0./$list.$index.}}\")\n"
      "      [[ ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace\n"
      "    fi\n"
      "  fi\n"
      "  [ ${{#COMPREPLY[@]}} -gt 0 ] && return\n"
      "  compopt -o filenames\n"
      "  COMPREPLY=($(compgen -P \"$before\" -f -- \"$current\"))\n"
      "}}\n"
      "complete -F _retort retort\n",
      values, setting_words(), names, cases);
}

std::string zsh_completion(const CLI::App& app) {
  std::string names, cases, values;
  for (const auto* command : commands_of(app)) {
    names += fmt::format("    {}\n", single_quoted(command->get_name() + ":" + command->get_description()));
    cases += fmt::format("    ({}) compadd -- {}; {} ;;\n", command->get_name(),
                         fmt::join(option_names(*command), " "),
                         takes_recipe(*command) ? "_retort_settings" : "_files");
  }
  for (const auto& [key, words] : settings())
    if (!words.empty()) values += fmt::format("    ({}) reply=({}) ;;\n", key, all_quoted(words));
  return fmt::format(
      "#compdef retort\n"
      "# zsh completion for retort; put it in a folder of $fpath as _retort\n"
      "_retort_values() {{\n"
      "  reply=()\n"
      "  case $1 in\n{}  esac\n"
      "}}\n"
      "# Keys of a list's entry are known by those of entry 0; a[1].b is a.1.b.\n"
      "_retort_settings() {{\n"
      "  emulate -L zsh\n"
      "  setopt extendedglob\n"
      "  local -a keys reply match mbegin mend\n"
      "  local plain=${{PREFIX//\\[/.}}\n"
      "  plain=${{plain//\\]/}}\n"
      "  if [[ $PREFIX == *=* ]]; then\n"
      "    _retort_values ${{${{plain%%=*}}//.<->./.0.}}\n"
      "    compset -P '*='\n"
      "    if (( $#reply )); then compadd -a reply; else _files; fi\n"
      "    return\n"
      "  fi\n"
      "  keys=({})\n"
      "  if [[ $plain == (#b)([a-z_.]##).(<->).* ]]; then\n"
      "    keys=(${{keys/#$match[1].0./$match[1].$match[2].}})\n"
      "  fi\n"
      "  compadd -S '' -a keys\n"
      "  _files\n"
      "}}\n"
      "_retort() {{\n"
      "  local -a commands\n"
      "  commands=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then _describe command commands; return; fi\n"
      "  case $words[2] in\n{}  esac\n"
      "}}\n"
      "_retort \"$@\"\n",
      values, setting_words(), names, cases);
}

std::string fish_completion(const CLI::App& app) {
  std::string keys, values, text;
  for (const auto& [key, words] : settings()) {
    keys += fmt::format(" {}=", key);
    for (const auto& word : words) values += " " + single_quoted(key + "=" + word);
  }
  text = fmt::format(
      "# fish completion for retort; put it in ~/.config/fish/completions/retort.fish\n"
      "# Keys of a list's entry are known by those of entry 0.\n"
      "function __retort_settings\n"
      "  set -l index (commandline -ct | string replace -rf '^[a-z_.]+?[.\\[](\\d+).*' '$1')\n"
      "  test -n \"$index\"; or set index 0\n"
      "  set -l settings{}\n"
      "  if commandline -ct | string match -q '*=*'\n"
      "    set settings{}\n"
      "  end\n"
      "  string replace -r '^([a-z_.]+)\\.0\\.' \"\\$1.$index.\" -- $settings\n"
      "end\n",
      keys, values);
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
      text += fmt::format("complete -c retort -n '__fish_seen_subcommand_from {}' -a '(__retort_settings)'\n",
                          command->get_name());
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
