// Lists of messages as data sets write them: who speaks, what is said, what of it is learned.
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

constexpr const char* kTools =
    "tool calls are not carried by the templates yet; leave such records out (on_bad_record: skip), or write "
    "the call and its result into the texts";

// Names that data sets in the wild give to the three roles.
std::string role_of(const Entry& entry) {
  const auto [key, value] = entry.either("role", "from");
  if (!value->is_string()) entry.refuse(key, std::string("expected a string, found ") + value->type_name());
  const auto& name = value->get_ref<const std::string&>();
  if (name == "system") return "system";
  if (name == "user" || name == "human" || name == "prompter") return "user";
  if (name == "assistant" || name == "gpt" || name == "model" || name == "bot" || name == "chatgpt")
    return "assistant";
  if (name == "tool" || name == "function" || name == "function_call" || name == "observation" ||
      name == "tool_call" || name == "tool_response" || name == "ipython")
    entry.refuse(fmt::format("{} '{}'", key, name), kTools);
  if (name == "developer")
    entry.refuse("role 'developer'",
                 "the templates have no such role; call it system, as they would render it");
  entry.refuse(fmt::format("{} '{}'", key, name),
               "unknown role; expected system, user (human) or assistant (gpt, model)");
}

// A text, or parts that are all texts.
std::string content_of(const Entry& entry) {
  const auto [key, value] = entry.either("content", "value");
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) entry.refuse(key, std::string("expected a string, found ") + value->type_name());
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
    {"tool_calls", kTools},
    {"function_call", kTools},
    {"tool_call_id", kTools},
    {"tools", kTools},
    {"name",
     "names of speakers are not carried by the templates; write the name into the text, or delete the "
     "field"},
    {"images", "only texts are learned; leave such records out (on_bad_record: skip)"},
    {"audio", "only texts are learned; leave such records out (on_bad_record: skip)"},
    {"refusal", "a refusal stands in a field of its own; write it as the content if it is to be learned"},
    {"train_detail", "parts of a message cannot be chosen; say train: true or false of the whole message"},
    {"train_offsets", "parts of a message cannot be chosen; say train: true or false of the whole message"},
};

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
  for (const char* field : {"reasoning_content", "reasoning", "thinking", "thought"}) {
    const auto* value = entry.find(field);
    if (!value) continue;
    if (!value->is_string())
      entry.refuse(field, std::string("expected a string, found ") + value->type_name());
    if (reasoning == "refuse")
      entry.refuse(field, "say with data.sources.reasoning what becomes of thoughts: learn, mask or strip");
    if (!thought.empty() && thought != value->get_ref<const std::string&>())
      entry.refuse(field, "a second field holds another thought; keep one of them");
    thought = value->get<std::string>();
  }
  return thought;
}

Message message_of(const Entry& entry, std::string_view reasoning) {
  Message message{role_of(entry), ""};
  for (const auto& [field, what] : kNotCarried)
    if (entry.find(field)) entry.refuse(field, what);
  message.content = content_of(entry);
  const bool assistant = message.role == "assistant";
  if (!is_learned(entry, assistant)) message.learned = Learned::nothing;
  const auto thought = thought_of(entry, reasoning);
  if (!assistant) {
    if (!thought.empty()) entry.refuse("", "brings a thought, but only an assistant's message may");
    return message;
  }
  if (reasoning == "strip") message.content = without_thoughts(message.content);
  else if (!trimmed(thought).empty())
    message.content = fmt::format("<think>\n{}\n</think>\n\n{}", trimmed(thought), message.content);
  if (reasoning == "mask" && message.learned == Learned::whole) message.learned = Learned::after_thought;
  return message;
}

}  // namespace

std::vector<Message> messages_of(const Json& list, std::string_view place, std::string_view reasoning) {
  if (!list.is_array() || list.empty()) corrupt(place, "", "expected a list of messages that is not empty");
  std::vector<Message> messages;
  for (const auto& json : list)
    messages.push_back(message_of(Entry(json, place, messages.size() + 1), reasoning));
  return messages;
}

}  // namespace retort
