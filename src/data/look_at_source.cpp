#include "data/look_at_source.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "data/column_look.h"
#include "data/unused_columns.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr std::pair<std::string_view, std::string_view> kPairs[] = {
    {"question", "answer"},
    {"question", "response"},
    {"question", "solution"},
    {"query", "response"},
    {"query", "answer"},
    {"input", "output"},
    {"input", "target"},
    {"instruction", "response"},
    {"prompt", "response"},
    {"prompt", "answer"},
    {"source", "target"},
    {"document", "summary"},
    {"article", "highlights"},
    {"article", "summary"},
    {"text", "summary"},
    {"dialogue", "summary"},
    {"problem", "solution"},
    {"src", "tgt"},
    {"user", "assistant"},
    {"human", "assistant"},
    {"instruction", "output"},
    {"prompt", "completion"},  // Instruction and Output: other cases
    {"q", "a"}};
constexpr std::string_view kGroups[] = {
    "patient_id",  "patient", "subject_id", "document_id", "doc_id",          "case_id",  "file_id",
    "contract_id", "user_id", "author_id",  "customer_id", "conversation_id", "thread_id"};

std::string braced(const ColumnLook& column, std::string_view inside = "") {
  return "{" + column.name + std::string(inside) + "}";
}

class Looker {
 public:
  explicit Looker(const std::string& path) { look_.source.path = path; }

  SourceLook look() {
    see_files();
    see_encoding();
    std::string first_bad;
    columns_ = look_at_columns(look_.source, [&](const std::string& problem) {
      if (first_bad.empty()) first_bad = problem;
    });
    if (columns_.records == 0 && !first_bad.empty()) throw FormatError(first_bad);
    if (!columns_.columns.empty()) see_columns();
    try_records();
    see_groups();
    look_.unused = unused_columns(source(), kind_, columns_);
    return std::move(look_);
  }

 private:
  SourceSpec& source() { return look_.source; }
  void because(const std::string& key, const std::string& reason) {
    look_.reasons.emplace_back(key, printable(reason));
  }

  void see_files() {
    const fs::path path = source().path;
    if (fs::is_directory(path)) {
      bool texts = false, records = false;
      for (const auto& entry : fs::directory_iterator(path)) {
        const auto ending = ending_of(entry.path());
        texts = texts || ending == ".txt";
        records = records || ending == ".jsonl" || ending == ".ndjson" || ending == ".json" ||
                  ending == ".csv" || ending == ".tsv";
      }
      if (texts && !records) {
        source().format = "text";
        because("format", "each file of the folder is a text");
      }
      return;
    }
    if (ending_of(path) == ".txt") see_text(path);
  }

  // A file of texts: one of many lines that are each a text, or one text.
  void see_text(const fs::path& path) {
    const MappedFile file(path);
    const auto made = text_of_file(file.text(), path.string(), "utf-8");
    const auto text = made ? std::string_view(*made) : file.text();
    int64_t lines = 0, empty = 0;
    for (size_t begin = 0; begin < text.size();) {
      const auto end = std::min(text.find('\n', begin), text.size());
      ++(trimmed(text.substr(begin, end - begin)).empty() ? empty : lines);
      begin = end + 1;
    }
    if (lines < 20 || empty > 0) return because("format", "the file is one text");
    source().format = "lines";
    because("format", fmt::format("{} lines and no empty one between them: each is a text", lines));
  }

  void see_encoding() {
    const auto files = source_files(source());
    if (files.empty() || fs::path(files[0]).extension() == ".gz" || fs::path(files[0]).extension() == ".zst")
      return;
    constexpr std::string_view kTexts[] = {"jsonl", "json", "csv", "text", "lines"};
    if (std::find(std::begin(kTexts), std::end(kTexts), source_format(source())) == std::end(kTexts)) return;
    const MappedFile file(files[0]);
    const auto text = file.text();
    if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) {
      source().encoding = "utf-16";
      because("encoding", "the file begins with the mark of UTF-16");
      return;
    }
    try {
      require_text(text, files[0], "");
    } catch (const FormatError&) {
      if (text.find('\0') != std::string_view::npos) throw;
      source().encoding = "cp1252";
      because("encoding", "the file is no UTF-8; Windows programs of Western Europe write cp1252");
    }
  }

  void pair(const std::string& prompt, const std::string& completion, const std::string& reason) {
    source().prompt = prompt, source().completion = completion;
    because("prompt", reason);
  }

  void see_columns() {
    const auto has = [&](std::string_view name) { return columns_.find(name); };
    if (const auto* messages = conversation_of(columns_.columns)) return see_messages(*messages);
    if (see_choices() || see_preferences()) return;
    const auto exactly = [&](const char* name) { return has(name) && has(name)->name == name; };
    if (exactly("instruction") && exactly("output"))
      return because("", "instruction and output: Alpaca's records");
    if (exactly("prompt") && exactly("completion")) return because("", "records of prompt and completion");
    for (const auto& [question, answer] : kPairs)
      if (has(question) && has(answer)) return see_pair(*has(question), *has(answer));
    if (const auto* answers = has("answers"); answers && has("question") && answers->objects > 0)
      return pair(with_context(*has("question")), braced(*answers, ".text[0]"),
                  "question and answers, as SQuAD has them: the first of the answers is learned");
    if (!has("text") && see_nested()) return;
    if (see_label()) return;
    if (const auto* text = has("text")) {
      if (text->name != "text") source().fields_of_records.entries = {{"text", Json(text->name).dump()}};
      return because("", fmt::format("the column {} holds texts, and no other one is an answer", text->name));
    }
    see_other_columns();
  }

  // The column that holds a list of messages in most records.
  const ColumnLook* conversation_of(const std::vector<ColumnLook>& columns) const {
    constexpr std::string_view kOthers[] = {"tools",    "functions", "documents", "chosen",
                                            "rejected", "prompt",    "completion"};
    for (const auto& column : columns)
      if (2 * column.conversations > columns_.records &&
          std::find(std::begin(kOthers), std::end(kOthers), column.last_word()) == std::end(kOthers))
        return &column;
    return nullptr;
  }

  // What is learned stands inside of objects: {"sample": {"question": ..., "answer": ...}}.
  bool see_nested() {
    if (const auto* messages = conversation_of(columns_.nested)) {
      see_messages(*messages);
      return true;
    }
    for (const auto& [asked, answered] : kPairs) {
      const auto *question = columns_.find_nested(asked), *answer = columns_.find_nested(answered);
      if (!question || !answer || question->lists + answer->lists + answer->objects > 0) continue;
      see_pair(*question, *answer);
      return true;
    }
    return false;
  }

  void see_messages(const ColumnLook& column) {
    const auto list = Json::parse(column.first, nullptr, false);
    const auto name_of = [&](std::initializer_list<const char*> names) -> std::string {
      for (const auto* name : names)
        if (list.is_array() && list[0].contains(name)) return name;
      return "";
    };
    auto& fields = source().fields_of_records.entries;
    const auto role = name_of({"role", "from", "speaker", "who", "author", "sender"});
    const auto content = name_of({"content", "value", "text", "utterance", "said", "message"});
    if (column.name != "messages" && column.name != "conversations")
      fields.emplace_back("messages", Json(column.name).dump());
    if (!role.empty() && role != "role" && role != "from") fields.emplace_back("role", Json(role).dump());
    if (!content.empty() && content != "content" && content != "value")
      fields.emplace_back("content", Json(content).dump());
    because(fields.empty() ? "" : "fields",
            fmt::format("the column {} holds conversations of {} and {}", column.name, role, content));
    if (!role.empty()) see_roles(list, role);
  }

  // Words for who speaks that nobody else uses: where there are two, the first asks and the second answers.
  void see_roles(const Json& list, const std::string& key) {
    constexpr std::string_view kKnown[] = {
        "system",      "user",          "human",    "prompter",      "assistant", "gpt",
        "model",       "bot",           "chatgpt",  "function_call", "tool_call", "tool",
        "observation", "tool_response", "function", "ipython",       "developer"};
    std::vector<std::string> others;
    for (const auto& message : list) {
      const auto said =
          message.contains(key) && message[key].is_string() ? message[key].get<std::string>() : "";
      if (std::find(std::begin(kKnown), std::end(kKnown), said) == std::end(kKnown) && !said.empty() &&
          std::find(others.begin(), others.end(), said) == others.end())
        others.push_back(said);
    }
    if (others.size() != 2) return;
    source().roles.entries = {{others[0], "\"user\""}, {others[1], "\"assistant\""}};
    because("roles", fmt::format("{} speaks first and {} answers", others[0], others[1]));
  }

  bool see_choices() {
    const auto* question = columns_.find("question");
    const auto* choices = columns_.find_any({"choices", "options"});
    const auto* answer = columns_.find_any({"answerkey", "answer"});
    if (!question || !choices || !answer || choices->lists + choices->objects == 0) return false;
    const auto inside = choices->objects > 0 ? ".text[A. ]" : "[A. ]";
    pair(with_context(*question) + "\n" + braced(*choices, inside), braced(*answer),
         fmt::format("{} is asked with {}, a lettered line each; {} is the answer", question->name,
                     choices->name, answer->name));
    return true;
  }

  bool see_preferences() {
    const auto *chosen = columns_.find("chosen"), *rejected = columns_.find("rejected");
    if (!chosen || !rejected) return false;
    const auto* prompt = columns_.find_any({"prompt", "question", "instruction", "query", "input"});
    const bool lists = chosen->conversations > 0;
    std::string asked;
    if (prompt) asked = prompt->conversations > 0 ? braced(*prompt, "[-1].content") : braced(*prompt);
    else if (lists) asked = braced(*chosen, "[0].content");
    else return false;
    pair(asked, lists ? braced(*chosen, "[-1].content") : braced(*chosen),
         "chosen and rejected are a pair of preferences, which are not learned here: the chosen answer is");
    return true;
  }

  std::string with_context(const ColumnLook& question) const {
    const auto* context = columns_.find_any({"context", "passage", "background"});
    return context && context != &question ? braced(*context) + "\n\n" + braced(question) : braced(question);
  }

  void see_pair(const ColumnLook& question, const ColumnLook& answer) {
    auto prompt = with_context(question);
    const auto* input = columns_.find("input");
    if (input && input != &question && input != &answer) prompt += "\n\n" + braced(*input);
    pair(prompt, braced(answer), fmt::format("{} is asked, {} is the answer", question.name, answer.name));
  }

  bool see_label() {
    const auto* label = columns_.find_any(
        {"label", "labels", "category", "class", "intent", "sentiment", "topic", "tag", "target", "rating"});
    if (label && !columns_.is_label(*label)) label = nullptr;
    if (!label && !columns_.find("text") && columns_.columns.size() > 1)
      for (const auto& column : columns_.columns)
        if (columns_.is_label(column) && column.values.size() > 1) label = &column;
    if (!label) return false;
    const auto* text =
        columns_.find_any({"text", "sentence", "review", "description", "utterance", "document"});
    if (!text || text == label) {
      text = nullptr;
      for (const auto& column : columns_.columns)
        if (&column != label && 2 * column.filled >= columns_.records &&
            (!text || column.mean_bytes() > text->mean_bytes()))
          text = &column;
    }
    if (!text) return false;
    pair(braced(*text), braced(*label),
         fmt::format("{} has {} different values: it is the label of {}", label->name, label->values.size(),
                     text->name));
    const auto listed = fmt::format("{}", fmt::join(label->values, ", "));
    if (listed.size() <= 600 && listed.find_first_of("{}") == std::string::npos) {
      source().system = fmt::format("Answer with one of: {}", listed);
      because("system", "so that the model knows the labels");
    }
    return true;
  }

  // Nothing says what is what.
  void see_other_columns() {
    std::vector<const ColumnLook*> used;
    for (const auto& column : columns_.columns)
      if (2 * column.filled >= columns_.records) used.push_back(&column);
    if (used.empty())
      throw RecipeError(
          fmt::format("{}: no column has something in half of the records", printable(source().path)));
    if (used.size() == 1) {
      source().fields_of_records.entries = {{"text", Json(used[0]->name).dump()}};
      return because("fields", fmt::format("{} is the only column that is filled: its texts are learned",
                                           used[0]->name));
    }
    std::string prompt;
    for (size_t i = 0; i + 1 < used.size(); ++i)
      prompt += fmt::format("{}{}: {}", i ? "\n" : "", used[i]->name, braced(*used[i]));
    pair(prompt, braced(*used.back()),
         "LOOK HERE: no name says which column is the answer, so the last one is taken, and all others are "
         "the question");
  }

  struct Trial {
    int64_t good = 0, bad = 0, empty = 0, with_answer = 0, answer_bytes = 0;
    std::string first;  // reason why one is bad
    bool tools = false;
    std::map<std::pair<uint64_t, uint64_t>, int64_t> prompts;
  };

  Trial trial() {
    Trial made;
    auto spec = source();
    spec.skip_empty = true;
    RecordMaker maker(spec, 0);
    bool settled = false;
    const auto refused = [&](const std::string& problem) {
      if (++made.bad == 1) made.first = problem;
    };
    read_rows(
        spec,
        [&](Row row) {
          try {
            if (!settled) maker.settle(row);
            settled = true;
            const auto record = maker.make(std::move(row));
            ++made.good;
            if (record.messages.empty()) return;
            ++made.with_answer;
            made.answer_bytes += static_cast<int64_t>(record.completion().size());
            made.tools = made.tools || !record.messages[0].beside.empty();
            for (const auto& message : record.messages) made.tools = made.tools || !message.fields.empty();
            const auto key = prompt_key(record);
            ++made.prompts[{key.high, key.low}];
          } catch (const EmptyRecord&) { ++made.empty; } catch (const Error& error) {
            refused(error.what());
          }
        },
        [] {}, refused);
    kind_ = maker.kind();
    return made;
  }

  void try_records() {
    auto made = trial();
    if (made.bad > 0 && made.first.find("data.sources.reasoning") != std::string::npos) {
      source().reasoning = "learn";
      because("reasoning", "messages bring thoughts: they are learned, before the answer");
      made = trial();
    }
    if (made.good == 0)
      throw FormatError(!made.first.empty()
                            ? made.first
                            : fmt::format("{}: every record is empty", printable(source().path)));
    if (made.empty > 0) {
      source().skip_empty = true;
      because("skip_empty", fmt::format("{} of {} records have an empty text where one is needed", made.empty,
                                        made.good + made.empty + made.bad));
    }
    if (made.bad > 0) {
      source().on_bad_record = "skip";
      because("on_bad_record", fmt::format("{} of {} records are left out; the first: {}", made.bad,
                                           made.good + made.empty + made.bad, made.first));
    }
    look_.records = made.good;
    look_.answers = made.with_answer > 0;
    look_.tools = made.tools;
    if (made.with_answer > 0)
      look_.answer_bytes = static_cast<double>(made.answer_bytes) / static_cast<double>(made.with_answer);
    look_.other_groups = static_cast<int64_t>(made.prompts.size());
  }

  // Records that belong together stay on one side of the split.
  void see_groups() {
    for (const auto name : kGroups) {
      const auto* column = columns_.find(name);
      const auto different = column ? static_cast<int64_t>(column->hashes.size()) : 0;
      if (different < 2 || different >= column->filled) continue;
      source().group = braced(*column);
      look_.other_groups = different;
      return because("group", fmt::format("{} names {} groups, which stay on one side of the split each",
                                          column->name, different));
    }
    if (!look_.answers || 20 * (look_.records - look_.other_groups) < look_.records) return;
    source().group = "prompt";
    because("group", "several answers to one prompt stay on one side of the split");
  }

  SourceLook look_;
  ColumnsLook columns_;
  std::string kind_;  // of records that say by their keys what they are
};

}  // namespace

SourceLook look_at_source(const std::string& path) { return Looker(path).look(); }

}  // namespace retort
