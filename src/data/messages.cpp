// Lists of messages as data sets write them: who speaks, what is said, what of it is learned.
#include <algorithm>
#include <optional>
#include <span>

#include "base/error.h"
#include "data/json_records.h"
#include "text/chat_pieces.h"
#include "text/thoughts.h"

namespace retort {
namespace {

// One message on its way in; errors name the record, the message and the field.
class Entry {
 public:
  Entry(const Json& json, std::string_view place, size_t number)
      : json_(json), place_(place), number_(number) {
    if (!json.is_object()) refuse("", std::string("expected an object, found ") + json.type_name());
  }

  [[noreturn]] void refuse(std::string_view field, std::string_view what) const {
    corrupt(place_, fmt::format("message {}{}{}", number_, field.empty() ? "" : ": ", field), what);
  }

  // nullptr when it is not there, null, or an empty text, list or object.
  const Json* find(std::string_view field) const {
    const auto found = json_.find(field);
    if (found == json_.end() || found->is_null()) return nullptr;
    if ((found->is_string() && found->get_ref<const std::string&>().empty()) ||
        (found->is_structured() && found->empty()))
      return nullptr;
    return &*found;
  }

  bool has_content() const { return find("content") || find("value"); }

  // Under either name: {"role", "content"} or, as ShareGPT has it, {"from", "value"}.
  std::pair<std::string_view, const Json*> either(const char* name, const char* other) const {
    const auto key = json_.contains(name) || !json_.contains(other) ? name : other;
    const auto found = json_.find(key);
    if (found == json_.end()) refuse(key, "this key is missing");
    return {key, &*found};
  }

 private:
  const Json& json_;
  std::string_view place_;
  size_t number_;
};

std::optional<Json> parse_or_nothing(const std::string& text) {
  try {
    return parse_json(text, "");
  } catch (const Error&) { return std::nullopt; }
}

// Names that data sets in the wild give to the roles.
std::string role_of(const Entry& entry) {
  const auto [key, value] = entry.either("role", "from");
  if (!value->is_string()) entry.refuse(key, expected_string(*value));
  const auto& name = value->get_ref<const std::string&>();
  if (name == "system") return "system";
  if (name == "user" || name == "human" || name == "prompter") return "user";
  if (name == "assistant" || name == "gpt" || name == "model" || name == "bot" || name == "chatgpt" ||
      name == "function_call" || name == "tool_call")
    return "assistant";
  if (name == "tool" || name == "observation" || name == "tool_response") return "tool";
  if (name == "function" || name == "ipython" || name == "developer" || name == "latest_reminder")
    return name;
  entry.refuse(fmt::format("{} '{}'", key, name),
               "unknown role; expected system, user (human), assistant (gpt, model), tool or developer");
}

// ShareGPT's calls: the message is the call itself, a JSON object (or a list of them).
bool is_call(const Entry& entry) {
  const auto name = entry.either("role", "from").second->get<std::string>();
  return name == "function_call" || name == "tool_call";
}

std::string calls_of(const Entry& entry, const std::string& text) {
  const auto call = parse_or_nothing(text);
  if (!call || !(call->is_object() || call->is_array()))
    entry.refuse("", "a call of a tool: expected a JSON object {\"name\": ..., \"arguments\": ...}");
  std::string calls;
  const auto add = [&](std::string_view function) {
    calls += (calls.empty() ? "" : ",") + fmt::format(R"({{"type":"function","function":{}}})", function);
  };
  if (call->is_object()) add(text);
  else
    for (const auto& [name, one] : json_parts(text)) add(one);
  return "\"tool_calls\":[" + calls + "]";
}

// A text, or parts that are all texts.
std::string content_of(const Entry& entry) {
  const auto [key, value] = entry.either("content", "value");
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) entry.refuse(key, expected_string(*value));
  std::string text;
  for (size_t i = 0; i < value->size(); ++i) {
    const auto& part = (*value)[i];
    const auto where = fmt::format("{}[{}]", key, i);
    if (part.is_string()) {
      text += part.get_ref<const std::string&>();
      continue;
    }
    const auto type = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || type == part.end() || !type->is_string())
      entry.refuse(where, "expected a part {\"type\": \"text\", \"text\": ...}");
    if (*type != "text")
      entry.refuse(fmt::format("{}: part of type '{}'", where, type->get_ref<const std::string&>()),
                   "only texts are learned; leave such records out (on_bad_record: skip)");
    const auto words = part.find("text");
    if (words == part.end() || !words->is_string()) entry.refuse(where + ".text", "expected a string");
    text += words->get_ref<const std::string&>();
  }
  return text;
}

constexpr std::pair<const char*, const char*> kNotCarried[] = {
    {"images", "only texts are learned; leave such records out (on_bad_record: skip)"},
    {"audio", "only texts are learned; leave such records out (on_bad_record: skip)"},
    {"refusal", "a refusal stands in a field of its own; write it as the content if it is to be learned"},
    {"train_detail", "parts of a message cannot be chosen; say train: true or false of the whole message"},
    {"train_offsets", "parts of a message cannot be chosen; say train: true or false of the whole message"},
};

constexpr std::string_view kThoughts[] = {"reasoning_content", "reasoning", "thinking", "thought"};
// Of a message, what only templates in Jinja may write.
constexpr std::string_view kForTemplates[] = {"tool_calls", "function_call", "tool_call_id", "tools", "name"};
// Of a message, what is read here.
constexpr std::string_view kReadHere[] = {"role",   "from",  "content",  "value",
                                          "weight", "train", "training", "loss"};

bool is_one_of(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool has_more(const Json& message) {
  if (!message.is_object()) return false;
  for (const auto& [name, value] : message.items())
    if (!is_one_of(kReadHere, name) && !is_one_of(kThoughts, name)) return true;
  return false;
}

// The members that templates may write, as the file has them. `text`: the message's JSON.
void take_fields(const Entry& entry, std::string_view text, Message& message) {
  for (const auto& [name, value] : json_parts(text)) {
    if (is_one_of(kReadHere, name) || is_one_of(kThoughts, name) || !entry.find(name)) continue;
    message.fields += (message.fields.empty() ? "" : ",") + Json(name).dump() + ":" + value;
    if (message.not_carried.empty() && is_one_of(kForTemplates, name)) message.not_carried = name;
  }
}

// OpenAI's weight, Axolotl's train, and loss: 0 and false say that an answer is read and not learned.
bool is_learned(const Entry& entry, bool assistant) {
  bool learned = true;
  for (const char* field : {"weight", "train", "training", "loss"}) {
    const auto* value = entry.find(field);
    if (!value) continue;
    const bool yes = *value == true || *value == 1, no = *value == false || *value == 0;
    if (!yes && !no) entry.refuse(field, "expected 0, 1, true or false; an answer is learned or it is not");
    if (yes && !assistant)
      entry.refuse(field,
                   "only answers of the assistant are learned one by one; data.loss: all learns every "
                   "token");
    learned = learned && yes;
  }
  return learned;
}

// The thought that a message brings in a field of its own, "" when it brings none.
std::string thought_of(const Entry& entry, std::string_view reasoning) {
  std::string thought;
  for (const auto field : kThoughts) {
    const auto* value = entry.find(field);
    if (!value) continue;
    if (!value->is_string()) entry.refuse(field, expected_string(*value));
    if (reasoning == "refuse")
      entry.refuse(field, "say with data.sources.reasoning what becomes of thoughts: learn, mask or strip");
    if (!thought.empty() && thought != value->get_ref<const std::string&>())
      entry.refuse(field, "a second field holds another thought; keep one of them");
    thought = value->get<std::string>();
  }
  return thought;
}

Message message_of(const Entry& entry, std::string_view reasoning, std::string_view text) {
  Message message{role_of(entry), ""};
  for (const auto& [field, what] : kNotCarried)
    if (entry.find(field)) entry.refuse(field, what);
  if (!text.empty()) take_fields(entry, text, message);
  const bool calls = entry.find("tool_calls") || entry.find("function_call");
  if (!calls || entry.has_content()) message.content = content_of(entry);
  if (is_call(entry)) {
    message.fields = calls_of(entry, message.content) + (message.fields.empty() ? "" : ",") + message.fields;
    message.not_carried = "tool_calls";
    message.content.clear();
  }
  const bool assistant = message.role == "assistant";
  if (!assistant && message.role != "system" && message.role != "user" && message.not_carried.empty())
    message.not_carried = fmt::format("role '{}'", message.role);
  if (!is_learned(entry, assistant)) message.learned = Learned::nothing;
  const auto thought = thought_of(entry, reasoning);
  if (!assistant) {
    if (!thought.empty()) entry.refuse("", "brings a thought, but only an assistant's message may");
    return message;
  }
  if (reasoning == "strip") {
    message.content = without_thoughts(message.content);
  } else if (!trimmed(thought).empty()) {
    message.thought = thought;
    message.spoken = message.content;
    message.content = fmt::format("<think>\n{}\n</think>\n\n{}", trimmed(thought), message.content);
  }
  if (reasoning == "mask" && message.learned == Learned::whole) message.learned = Learned::after_thought;
  return message;
}

}  // namespace

std::vector<Message> messages_of(const Json& list, std::string_view place, std::string_view reasoning,
                                 const std::function<std::string()>& text) {
  if (!list.is_array() || list.empty()) corrupt(place, "", "expected a list of messages that is not empty");
  Columns texts;
  if (std::any_of(list.begin(), list.end(), has_more)) texts = json_parts(text ? text() : list.dump());
  std::vector<Message> messages;
  for (const auto& json : list) {
    const auto i = messages.size();
    messages.push_back(message_of(Entry(json, place, i + 1), reasoning,
                                  has_more(json) ? std::string_view(texts.at(i).second) : ""));
  }
  return messages;
}

}  // namespace retort
