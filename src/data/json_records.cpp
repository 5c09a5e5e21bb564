#include "data/json_records.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/tell.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

const Json& member(const Json& object, std::string_view name, std::string_view place) {
  const auto found = object.find(name);
  if (found == object.end()) corrupt(place, name, "this key is missing");
  return *found;
}

std::string text_member(const Json& object, std::string_view name, std::string_view place) {
  const auto& value = member(object, name, place);
  if (!value.is_string()) corrupt(place, name, expected_string(value));
  return value.get<std::string>();
}

std::string optional_text(const Json& object, std::string_view name, std::string_view place) {
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? std::string() : text_member(object, name, place);
}

// What any conversation may have beside its turns: a system text, and what templates are given.
constexpr std::string_view kSystems[] = {"system", "system_prompt"};
constexpr std::string_view kBeside[] = {"tools", "functions", "documents", "enable_thinking",
                                        "chat_template_kwargs"};

bool is_one_of(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// null, "", [], {}: nothing is said. Some data sets write lists as texts.
bool says_nothing(const Json& value) {
  if (value.is_string()) {
    const auto text = trimmed(value.get_ref<const std::string&>());
    return text.empty() || text == "[]" || text == "{}" || text == "null";
  }
  return value.is_null() || ((value.is_array() || value.is_object()) && value.empty());
}

constexpr const char* kMedia = "only texts are learned; leave such records out (on_bad_record: skip)";
constexpr std::pair<const char*, const char*> kNotCarried[] = {
    {"images", kMedia},
    {"image", kMedia},
    {"videos", kMedia},
    {"audios", kMedia},
    {"audio", kMedia},
    {"chosen", "preference pairs are not learned here; name the better answer with prompt and completion"},
    {"rejected", "preference pairs are not learned here; name the better answer with prompt and completion"},
};

// What a thread knows to be told of the file that it reads, so that no record but the first asks the others.
struct ToldHere {
  std::string file;
  std::vector<std::string> names;

  bool has(std::string_view of_file, std::string_view name) const {
    return of_file == file && std::find(names.begin(), names.end(), name) != names.end();
  }
  void add(std::string_view of_file, std::string_view name) {
    if (of_file != file) names.clear(), file = of_file;
    names.emplace_back(name);
  }
};

// A line for the first record of each file in which a key may mean something and may be a column like others.
void tell_once(std::string_view place, std::string_view name, std::string_view what) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> told;
  thread_local ToldHere here;
  const auto file = place.substr(0, place.rfind(':'));
  if (here.has(file, name)) return;
  here.add(file, name);
  {
    const std::lock_guard lock(mutex);
    if (!told.insert(fmt::format("{}: {}", file, name)).second) return;
  }
  tell(fmt::format(
      "{}: {}: {}, so that it is a column like others here: every record is learned, and all of a "
      "source alike (data.sources.weight)",
      printable(place), name, what));
}

// A field with a meaning is refused rather than ignored.
void refuse_fields_of_record(const Json& object, std::string_view place) {
  for (const auto& [name, what] : kNotCarried)
    if (const auto found = object.find(name); found != object.end() && !says_nothing(*found))
      corrupt(place, name, what);
}

// KTO data: prompt, completion and whether the answer is a good one. Tables hold it as a text.
void refuse_bad_answers(const Json& object, std::string_view place) {
  const auto label = object.find("label");
  if (label == object.end() || *label == true) return;
  if (*label == false || *label == "false" || *label == "False" || *label == "FALSE")
    corrupt(
        place, "label",
        "is false: such an answer is a bad example, and fine-tuning would learn it; leave such records out "
        "(on_bad_record: skip)");
}

// What a data set says of a whole record: read it and do not learn it. Where the value says that beyond doubt
// it is refused, since a record that is not learned is of no use here; any other value may be a column like
// others (a weight in kilograms, the train of a journey), which is said once for each file.
void refuse_unlearned(const Json& object, std::string_view kind, std::string_view place) {
  const auto refuse = [&](std::string_view name, std::string_view is) {
    corrupt(place, name,
            fmt::format("is {}: such a record is not to be learned; leave such records out (on_bad_record: "
                        "skip)",
                        is));
  };
  const auto is_no = [](const Json& value) {
    return value == false || value == "false" || value == "False" || value == "FALSE";
  };
  const auto is_yes = [](const Json& value) {
    return value == true || value == "true" || value == "True" || value == "TRUE";
  };
  for (const char* name : {"train", "training"}) {
    const auto found = object.find(name);
    if (found == object.end() || says_nothing(*found) || is_yes(*found)) continue;
    if (is_no(*found)) refuse(name, "false");
    tell_once(place, name, "is neither true nor false");
  }
  if (const auto weight = object.find("weight");
      weight != object.end() && !says_nothing(*weight) && !(*weight == 1) && !is_yes(*weight)) {
    if (is_no(*weight)) refuse("weight", "false");
    const bool of_messages = kind == "messages" || kind == "sharegpt";
    if (*weight == 0 && of_messages) refuse("weight", "0");
    tell_once(place, "weight", of_messages ? "is neither 0 nor 1" : "stands beside no list of messages");
  }
  if (const auto label = object.find("label");
      kind == "prompt_completion" && label != object.end() && (*label == 0 || *label == "0"))
    tell_once(place, "label", "is 0, and only false says that an answer is a bad example");
}

// Alpaca's earlier turns: a list of [instruction, output].
std::vector<Message> history_of(const Json& object, std::string_view place) {
  std::vector<Message> messages;
  const auto history = object.find("history");
  if (history == object.end() || says_nothing(*history)) return messages;
  const auto refuse = [&] {
    corrupt(place, "history", "expected a list of earlier turns, each [instruction, output]");
  };
  if (!history->is_array()) refuse();
  for (const auto& turn : *history) {
    if (!turn.is_array() || turn.size() != 2 || !turn[0].is_string() || !turn[1].is_string()) refuse();
    messages.push_back({"user", turn[0].get<std::string>()});
    messages.push_back({"assistant", turn[1].get<std::string>()});
  }
  return messages;
}

// A system text beside the messages goes first; where they bring one themselves it must be the same.
void take_system(const Json& object, std::string_view place, std::vector<Message>& messages) {
  for (const auto name : kSystems) {
    const auto text = optional_text(object, name, place);
    if (trimmed(text).empty()) continue;
    if (messages[0].role != "system") messages.insert(messages.begin(), {"system", text});
    else if (trimmed(messages[0].content) != trimmed(text))
      corrupt(place, name, "the record brings another system text too; keep one of them");
  }
}

// Earlier turns beside a list that holds the turns. (A text of that name is a column like others.)
void refuse_history(const Json& object, std::string_view place) {
  const auto history = object.find("history");
  if (history != object.end() && history->is_array() && !history->empty())
    corrupt(place, "history", "earlier turns stand beside the list of messages; write them into it");
}

// The JSON of a member of a line.
std::string text_of(std::string_view line, std::string_view key) {
  for (auto& [name, value] : json_parts(line))
    if (name == key) return std::move(value);
  return "";
}

}  // namespace

std::string beside_messages(const Json& object, std::string_view line, std::string_view place) {
  const auto says = [&](std::string_view name) {
    const auto found = object.find(name);
    return found != object.end() && !says_nothing(*found);
  };
  if (std::none_of(std::begin(kBeside), std::end(kBeside), says)) return "";
  std::string beside;
  const auto add = [&](std::string_view name, std::string_view json) {
    beside += fmt::format("{}{}:{}", beside.empty() ? "" : ",", Json(name).dump(), json);
  };
  for (const auto& [name, value] : json_parts(line)) {
    if (!is_one_of(kBeside, name) || !says(name)) continue;
    // Some data sets write lists and objects as texts.
    const auto& read = object[name];
    const auto inner = read.is_string() ? read.get<std::string>() : value;
    const auto json = read.is_string() ? parse_json(inner, fmt::format("{}: {}", place, name)) : read;
    if (name == "chat_template_kwargs") {
      if (!json.is_object()) corrupt(place, name, "expected an object of switches");
      for (const auto& [key, one] : json_parts(inner)) add(key, one);
    } else if (name == "enable_thinking") {
      add(name, value);
    } else {
      if (!json.is_array()) corrupt(place, name, "expected a list");
      add(name, inner);
    }
  }
  return beside;
}

std::string expected_string(const Json& value) {
  return fmt::format("expected a string, found {}; {}, or leave such records out with on_bad_record: skip",
                     value.type_name(),
                     value.is_number() || value.is_boolean() ? "write it in quotes" : "mend the record");
}

std::string recognised_kind(const Json& object, std::string_view place) {
  if (object.contains("messages")) return "messages";
  if (object.contains("conversations")) return "sharegpt";
  if (object.contains("instruction") && object.contains("output")) return "alpaca";
  if (object.contains("prompt") && object.contains("completion")) return "prompt_completion";
  if (object.contains("text")) return "text";
  std::string keys;
  for (const auto& [key, value] : object.items()) keys += (keys.empty() ? "" : ", ") + key;
  throw RecipeError(
      fmt::format("{}: no kind of record is recognised by its keys ({}); expected messages, conversations, "
                  "instruction + output, prompt + "
                  "completion or text; else set data.sources.prompt and data.sources.completion with "
                  "{{column}} placeholders",
                  place, printable(keys)));
}

bool reads_key(std::string_view kind, std::string_view key) {
  if (kind == "text") return key == "text";
  if (is_one_of(kSystems, key) || is_one_of(kBeside, key)) return true;
  if (kind == "messages") return key == "messages";
  if (kind == "sharegpt") return key == "conversations";
  if (kind == "prompt_completion") return key == "prompt" || key == "completion";
  return key == "instruction" || key == "input" || key == "output" || key == "history";  // Alpaca's
}

void fill_from_json(const Json& object, std::string_view line, std::string_view kind,
                    std::string_view reasoning, Record& record) {
  const std::string& place = record.place;
  if (kind != "text") refuse_fields_of_record(object, place);
  if (kind != "text") refuse_unlearned(object, kind, place);
  refuse_bad_answers(object, place);
  const auto read = [&](const char* key) {
    return messages_of(member(object, key, place), place, reasoning, [&] { return text_of(line, key); });
  };
  if (kind == "messages" || kind == "sharegpt") {
    refuse_history(object, place);
    record.messages = read(kind == "messages" ? "messages" : "conversations");
  } else if (kind == "alpaca") {
    auto user = text_member(object, "instruction", place);
    const auto input = optional_text(object, "input", place);
    if (!input.empty()) user += "\n\n" + input;
    record.messages = history_of(object, place);
    record.messages.push_back({"user", user});
    record.messages.push_back({"assistant", text_member(object, "output", place)});
  } else if (kind == "prompt_completion") {
    // Either texts or, as TRL writes them, lists of messages.
    const auto& prompt = member(object, "prompt", place);
    const auto& completion = member(object, "completion", place);
    refuse_history(object, place);
    record.messages = prompt.is_array()
                          ? read("prompt")
                          : std::vector<Message>{{"user", text_member(object, "prompt", place)}};
    if (completion.is_array()) {
      for (auto& message : read("completion")) record.messages.push_back(std::move(message));
    } else {
      record.messages.push_back({"assistant", text_member(object, "completion", place)});
    }
  } else {
    record.text = text_member(object, "text", place);
    return;
  }
  take_system(object, place, record.messages);
  record.messages[0].beside = beside_messages(object, line, place);
}

}  // namespace retort
