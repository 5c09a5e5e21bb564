// One side of tools/bench/templates: renders records with a chat template in Jinja on some threads and prints
// what it took, as JSON.
// templates_bench TEMPLATE RECORDS THREADS text|pieces [ROUNDS]: RECORDS has a line each,
// {"messages": [...], "tools": [...]}. text: the interpreter's text of each record, once, which goes to the
// file RECORDS.texts (a NUL behind each). pieces: what training asks for, with what is learned of an answer.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "base/files.h"
#include "base/ordered_work.h"
#include "data/json_records.h"
#include "text/jinja_chat.h"
#include "text/template_engine.h"
#include "text/tokenizer.h"

namespace {

using namespace retort;

constexpr size_t kBatch = 128;  // as data/record_source.cpp makes them

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Knows the control tokens of ChatML and no word.
class NoTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view, Specials) const override { return {}; }
  std::string decode(std::span<const int32_t>, bool) const override { return ""; }
  std::string token_bytes(int32_t) const override { return ""; }
  std::string token_text(int32_t id) const override { return std::string(kTokens[static_cast<size_t>(id)]); }
  std::optional<int32_t> find(std::string_view text) const override {
    for (int32_t id = 0; id < size(); ++id)
      if (kTokens[static_cast<size_t>(id)] == text) return id;
    return std::nullopt;
  }
  bool is_special(int32_t) const override { return true; }
  int64_t size() const override { return std::ssize(kTokens); }
  std::string hash() const override { return "none"; }

 private:
  static constexpr std::string_view kTokens[] = {"<|im_start|>", "<|im_end|>", "<|endoftext|>"};
};

struct Rows {
  std::vector<std::vector<Message>> messages;
  std::vector<RenderJob> jobs;
};

Rows read_rows(const std::string& file) {
  Rows rows;
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    Record record;
    record.place = file;
    fill_from_json(parse_json(line, file), line, "messages", "learn", record);
    rows.messages.push_back(record.messages);
    RenderJob job;
    for (const auto& [name, value] : json_parts(line)) {
      if (name == "messages")
        for (const auto& [none, message] : json_parts(value)) job.messages.push_back(message);
      else job.beside += (job.beside.empty() ? "\"" : ",\"") + name + "\":" + value;
    }
    job.wanted = {{static_cast<uint32_t>(job.messages.size()), false}};
    rows.jobs.push_back(std::move(job));
  }
  return rows;
}

}  // namespace

int main(int count, char** arguments) try {
  if (count != 5 && count != 6) {
    fmt::print(stderr, "usage: templates_bench TEMPLATE RECORDS THREADS text|pieces [ROUNDS]\n");
    return 2;
  }
  const std::string records = arguments[2];
  const auto rows = read_rows(records);
  const bool pieces = std::string_view(arguments[4]) == "pieces";
  const NoTokenizer tokenizer;
  const auto source = read_text(arguments[1]);
  const TemplateEngine engine(source, {{"eos_token", "<|im_end|>"}, {"bos_token", "<|endoftext|>"}});
  const auto chat = jinja_chat_template(source, tokenizer);
  const int64_t threads = std::max(1, std::atoi(arguments[3]));
  OrderedWork work(threads, static_cast<size_t>(threads) * 4);
  double best = std::numeric_limits<double>::max();
  std::string texts;
  const int rounds = count == 6 ? std::max(1, std::atoi(arguments[5])) : 5;
  for (int round = 0; round < rounds; ++round) {
    texts.clear();
    const double begin = now();
    for (size_t at = 0; at < rows.jobs.size(); at += kBatch) {
      const auto some = std::min(kBatch, rows.jobs.size() - at);
      work.add([&, at, some]() -> OrderedWork::Later {
        std::string text;
        if (pieces) {
          std::vector<const std::vector<Message>*> conversations;
          for (size_t i = at; i < at + some; ++i) conversations.push_back(&rows.messages[i]);
          chat.prepare(conversations);
          for (size_t i = at; i < at + some; ++i)
            for (const auto& piece : chat.render(rows.messages[i], false)) text += piece.text;
        } else {
          for (const auto& found : engine.render(std::span(rows.jobs).subspan(at, some))) {
            if (!found[0].problem.empty()) throw RecipeError(found[0].problem);
            for (const auto& part : found[0].parts) text += part.text;
            text += '\0';
          }
        }
        return [&texts, text = std::move(text)] { texts += text; };
      });
    }
    work.finish();
    best = std::min(best, now() - begin);
  }
  if (!pieces) std::ofstream(records + ".texts", std::ios::binary) << texts;
  fmt::print("{{\"records\": {}, \"bytes\": {}, \"microseconds\": {:.2f}}}\n", rows.jobs.size(), texts.size(),
             best * 1e6 / static_cast<double>(rows.jobs.size()));
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
