// `retort generate`: answers to prompts, or a conversation.
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "base/json.h"
#include "base/stop.h"
#include "base/tell.h"
#include "base/terminal.h"
#include "cli/adapter_option.h"
#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/spec_options.h"
#include "generate/generate.h"
#include "generate/prompts.h"
#include "generate/step_cost.h"
#include "models/layer_stream.h"
#include "models/own_templates.h"
#include "ops/device.h"
#include "ops/workers.h"
#include "report/progress.h"

namespace retort {

namespace {

constexpr size_t kMostInput = size_t{1} << 30;  // bytes of standard input

struct GenerateOptions {
  ModelSpec model;
  SampleSpec sample;
  GenerateSpec how;
  std::vector<std::string> prompts;
  AdapterOptions adapters;
  std::string file, chat_template = "auto", system, device = "cpu";
  int64_t answers = 1;
  bool raw = false, chat = false, jsonl = false, stats = false, ignore_ends = false;
};

std::string standard_input() {
  std::string text;
  char buffer[65536];
  for (;;) {
    const auto count = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (count == 0) return text;
    if (count < 0 && errno != EINTR) throw Failure(fmt::format("standard input: {}", std::strerror(errno)));
    leave_if_stopped("reading standard input");
    if (count > 0) text.append(buffer, static_cast<size_t>(count));
    if (text.size() > kMostInput)
      throw FormatError("standard input: more than " + bytes(kMostInput) + "; use --file");
  }
}

std::vector<Prompt> all_prompts(const GenerateOptions& options) {
  std::vector<Prompt> prompts;
  for (const auto& text : options.prompts)
    prompts.push_back({fmt::format("argument {}", prompts.size() + 1), {{"user", text}}});
  const bool from_stdin = options.file == "-" || (options.file.empty() && prompts.empty());
  if (from_stdin && options.file.empty() && isatty(STDIN_FILENO))
    throw RecipeError(
        "no prompt: give one as an argument, with --file or on standard input; --chat holds a conversation");
  if (from_stdin || !options.file.empty()) {
    const auto text = from_stdin ? standard_input() : std::string();
    const bool json = text.find_first_not_of(" \t\r\n") != std::string::npos &&
                      text[text.find_first_not_of(" \t\r\n")] == '{';
    for (auto& prompt : from_stdin ? prompts_of(text, "standard input", json) : read_prompts(options.file))
      prompts.push_back(std::move(prompt));
  }
  if (!options.system.empty())
    for (auto& prompt : prompts)
      if (prompt.messages[0].role != "system")
        prompt.messages.insert(prompt.messages.begin(), {"system", options.system});
  return prompts;
}

const ChatTemplate* wanted_template(const GenerateOptions& options, const LoadedModel& loaded) {
  if (!options.raw)
    return &choose_chat_template({options.chat_template, {}, "--template"}, own_templates(loaded),
                                 *loaded.tokenizer);
  if (options.chat_template != "auto" || !options.system.empty())
    throw RecipeError("--raw: the prompt is the whole text; --template and --system do not go with it");
  return nullptr;
}

// Writes answers in the prompts' order.
class AnswerPrinter {
 public:
  AnswerPrinter(const GenerateOptions& options, const std::vector<Prompt>& prompts)
      : options_(options),
        prompts_(prompts),
        terminal_(isatty(STDOUT_FILENO)),
        several_(prompts.size() * static_cast<size_t>(options.answers) > 1) {}

  // Answers [first, first + answers.size()), counting options.answers a prompt.
  void write(size_t first, const std::vector<Answer>& answers,
             const std::vector<std::vector<int32_t>>& tokens) {
    for (size_t i = 0; i < answers.size(); ++i) {
      const auto& answer = answers[i];
      const auto& prompt = prompts_[(first + i) / static_cast<size_t>(options_.answers)];
      if (options_.jsonl) {
        OrderedJson line{{"place", prompt.place}};
        if (prompt.messages.size() == 1) line["prompt"] = prompt.messages[0].content;
        else
          for (const auto& message : prompt.messages)
            line["messages"].push_back({{"role", message.role}, {"content", message.content}});
        line.update({{"text", answer.text},
                     {"finish", finish_name(answer.finish)},
                     {"tokens", answer.tokens.size()},
                     {"prompt_tokens", tokens[i].size()}});
        fmt::print("{}\n", line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
      } else {
        if (several_) fmt::print("{}==> {} <==\n", first + i > 0 ? "\n" : "", prompt.place);
        put(answer.text);
        fmt::print("\n");
      }
    }
    flush();
  }

  void put(std::string_view text) const {
    const auto shown = terminal_ ? harmless(text) : std::string(text);
    std::fwrite(shown.data(), 1, shown.size(), stdout);
  }

  void flush() const {
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
      throw Failure(fmt::format("standard output: {}", std::strerror(errno)));
  }

  // One answer, shown as it grows.
  bool streams() const { return terminal_ && !several_ && !options_.jsonl; }

 private:
  const GenerateOptions& options_;
  const std::vector<Prompt>& prompts_;
  bool terminal_, several_;
};

Exit generate_command(const GenerateOptions& options) {
  if (options.chat && (!options.prompts.empty() || !options.file.empty() || options.raw || options.jsonl ||
                       options.answers > 1))
    throw RecipeError("--chat: prompts, --file, --raw, --jsonl and --answers do not go with it");
  if (!options.chat_template.empty() && options.chat_template != "auto")
    require_template_name({options.chat_template, {}, "--template"});  // a wrong name costs no loading
  const auto prompts = options.chat ? std::vector<Prompt>() : all_prompts(options);
  const auto device = open_device(options.device);
  auto loaded = load_model(options.model);
  loaded.model->compute_on(device);
  load_adapters(loaded, options.adapters);
  const Writer writer{*loaded.model, *loaded.tokenizer, compute_type(options.model, device), options.how};
  const auto* chat_template = wanted_template(options, loaded);
  const auto texts = options.chat ? int64_t{1} : static_cast<int64_t>(prompts.size()) * options.answers;
  if (const auto* stream = loaded.model->stream()) {
    tell(describe(*stream));
    tell(describe_step(writer, texts, loaded.path));
  }
  if (options.chat) {
    Conversation conversation(writer, *chat_template, options.sample);
    return chat(conversation, options.system);
  }

  std::vector<std::vector<int32_t>> tokens;
  for (const auto& prompt : prompts) {
    auto ids = tokens_of(prompt, *loaded.tokenizer, chat_template);
    if (ids.empty()) throw RecipeError(printable(prompt.place) + ": the prompt has no tokens");
    if (answer_room(loaded.model->config, ids.size(), options.sample) < 1)
      throw RecipeError(
          fmt::format("{}: {} tokens leave no room in the model's context of {}; shorten the prompt",
                      printable(prompt.place), ids.size(), loaded.model->config.context));
    for (int64_t i = 0; i < options.answers; ++i) tokens.push_back(ids);
  }

  const AnswerRules rules{options.sample, options.ignore_ends
                                              ? StopRules{{}, options.sample.stop}
                                              : stop_rules(loaded.model->config, *loaded.tokenizer,
                                                           chat_template, options.sample)};
  AnswerPrinter printer(options, prompts);
  // Prompts share their beginnings inside a part; a part is written when it is done.
  const auto part = static_cast<size_t>(8 * options.how.batch * usable_threads(options.how.threads));
  std::optional<Progress> progress;
  if (tokens.size() > part || (tokens.size() > 1 && isatty(STDERR_FILENO)))
    progress.emplace("generate", static_cast<int64_t>(tokens.size()), "answers");
  const auto start = std::chrono::steady_clock::now();
  const auto cpu_start = std::clock();  // of all threads
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  size_t made = 0, read = 0;
  for (size_t first = 0; first < tokens.size(); first += part) {
    const std::vector some(
        tokens.begin() + static_cast<std::ptrdiff_t>(first),
        tokens.begin() + static_cast<std::ptrdiff_t>(std::min(tokens.size(), first + part)));
    OnText on_text;
    if (printer.streams()) {
      on_text = [&](int64_t, std::string_view fresh) {
        printer.put(fresh);
        printer.flush();
        return true;
      };
    } else if (progress) {
      on_text = [&](int64_t, std::string_view) {
        progress->update(static_cast<int64_t>(first));
        return true;
      };
    }
    const auto answers = generate(writer, some, rules, on_text, static_cast<int64_t>(first));
    for (size_t i = 0; i < answers.size(); ++i) made += answers[i].tokens.size(), read += some[i].size();
    if (progress)
      progress->update(static_cast<int64_t>(first + answers.size()),
                       fmt::format("{:.0f} tokens/s", static_cast<double>(made) / seconds()));
    if (printer.streams()) fmt::print("\n");
    else printer.write(first, answers, some);
  }
  if (progress) progress->finish(fmt::format("{:.0f} tokens/s", static_cast<double>(made) / seconds()));
  if (options.stats) {
    std::fflush(stdout);
    fmt::print(
        stderr,
        "{} answers, {} tokens from prompts of {} tokens in {:.2f} s ({:.2f} s of CPU): {:.1f} tokens/s\n",
        tokens.size(), made, read, seconds(), static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC,
        static_cast<double>(made) / seconds());
  }
  return Exit::done;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("generate", "Answer prompts with a model, or chat with it");
  auto options = std::make_shared<GenerateOptions>();
  command->add_option(
      "prompt", options->prompts,
      "prompts; without any, and without --file, one a line (or JSON objects) from standard input");
  command->add_option("-m,--model", options->model.path, "model folder or .gguf file")->required();
  options->adapters = add_adapter_option(*command);
  command->add_option(
      "-f,--file", options->file,
      "prompts, one a line; .jsonl: {\"prompt\": ...} or {\"messages\": [...]} a line; - is standard input");
  command->add_option("--template", options->chat_template,
                      "chat template by name; auto: by the hash of the model's own");
  command->add_option("--system", options->system, "system message for prompts that bring none");
  command->add_flag("--raw", options->raw, "no template: continue the text itself");
  command->add_flag("--chat", options->chat, "hold a conversation on the terminal");
  command->add_option("--answers", options->answers, "answers to each prompt, which is computed once")
      ->check(CLI::Range(int64_t{1}, int64_t{4096}));
  command->add_flag("--jsonl", options->jsonl,
                    "write one JSON object an answer: place, prompt, text, finish, tokens, prompt_tokens");
  command->add_flag("--ignore-ends", options->ignore_ends,
                    "go on after an end of text: every answer has --max-tokens tokens, for measurements");
  command->add_flag("--stats", options->stats, "tell tokens and tokens/s on standard error");
  command->add_option(
      "--device", options->device,
      "where it is computed: auto, cpu, cuda or cuda:N, as a recipe's `device`; cpu unless given");
  add_spec_options(*command, options->model, {"path"});
  add_spec_options(*command, options->sample);
  add_spec_options(*command, options->how);
  command->callback([options, &action] { action = [options] { return generate_command(*options); }; });
}

}  // namespace retort
