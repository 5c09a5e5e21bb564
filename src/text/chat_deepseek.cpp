// DeepSeek V3.2 and V4, whose models bring an encoder in Python (MIT) instead of a template in Jinja. The
// texts that tell the model of its tools are that encoder's, to the byte; so are the marks of a call, "DSML".
#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "text/chat_pieces.h"
#include "text/spelled_json.h"

namespace retort {
namespace {

constexpr std::string_view kDsml = "｜DSML｜", kThink = "<think>", kThought = "</think>";
constexpr std::string_view kUser = "<｜User｜>", kAssistant = "<｜Assistant｜>";

constexpr std::string_view kTools32 =
    "## Tools\n\n"
    "You have access to a set of tools you can use to answer the user's question.\n"
    "You can invoke functions by writing a \"<｜DSML｜function_calls>\" block like the following as part of "
    "your reply to the user:\n"
    "<｜DSML｜function_calls>\n"
    "<｜DSML｜invoke name=\"$FUNCTION_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"$FUNCTION_NAME2\">\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "</｜DSML｜function_calls>\n\n"
    "String and scalar parameters should be specified as is without any escaping or quotes, while lists and "
    "objects should use JSON format. The \"string\" attribute should be set to \"true\" for string type "
    "parameters and \"false\" for other types (numbers, booleans, arrays, objects).\n\n"
    "If the thinking_mode is enabled, then after function results you should strongly consider outputting a "
    "thinking block. Here is an example:\n\n"
    "<｜DSML｜function_calls>\n...\n</｜DSML｜function_calls>\n\n"
    "<function_results>\n...\n</function_results>\n\n"
    "<think>...thinking about results</think>\n\n"
    "Here are the functions available in JSONSchema format:\n"
    "<functions>\n";
constexpr std::string_view kToolsEnd32 = "\n</functions>\n";
constexpr std::string_view kTools4 =
    "## Tools\n\n"
    "You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "
    "\"<｜DSML｜tool_calls>\" block like the following:\n\n"
    "<｜DSML｜tool_calls>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "<｜DSML｜invoke name=\"$TOOL_NAME2\">\n"
    "...\n"
    "</｜DSML｜invoke>\n"
    "</｜DSML｜tool_calls>\n\n"
    "String parameters should be specified as is and set `string=\"true\"`. For all other types (numbers, "
    "booleans, arrays, objects), pass the value in JSON format and set `string=\"false\"`.\n\n"
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside "
    "<think>...</think> BEFORE any tool calls or final response.\n\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n\n"
    "### Available Tool Schemas\n\n";
constexpr std::string_view kToolsEnd4 =
    "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n";
constexpr std::string_view kResponseFormat =
    "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";

// V4 marks small jobs of its own beside the conversation, by the last message before their answer.
constexpr std::string_view kTasks[] = {"action", "query", "authority", "domain", "title", "read_url"};

struct Version {
  std::string_view family, other;  // its name, and that of the mode that it is not in
  bool four = false, thinking = false;
};

struct Call {
  std::string id, name;
  std::vector<SpelledMember> arguments;
};

// What a message says beside its words.
struct Fields {
  std::vector<std::string> tools;  // JSON of each
  std::string response_format;     // JSON
  std::vector<Call> calls;
  std::string call_id, task;
  bool ends = true;  // with EOS, unless wo_eos says otherwise
};

[[noreturn]] void refuse(size_t i, std::string_view what) {
  throw RecipeError(fmt::format("message {}: {}", i + 1, what));
}

const SpelledMember* member(const std::vector<SpelledMember>& members, std::string_view name) {
  const auto found = std::find_if(members.begin(), members.end(),
                                  [&](const SpelledMember& one) { return one.name == name; });
  return found == members.end() ? nullptr : &*found;
}

// What OpenAI's {"type": "function", "function": {...}} holds; some data sets write that alone.
std::string function_of(const SpelledMember& entry) {
  if (entry.is_text || !entry.value.starts_with('{'))
    throw RecipeError("expected a list of {\"type\": \"function\", \"function\": {...}}");
  const auto members = spelled_members(entry.value);
  const auto* function = member(members, "function");
  if (function && !function->value.starts_with('{')) throw RecipeError("function: expected an object");
  return function ? function->value : entry.value;
}

std::vector<std::string> tools_of(const SpelledMember& list) {
  if (list.is_text || !list.value.starts_with('[')) throw RecipeError("expected a list");
  std::vector<std::string> tools;
  for (const auto& tool : spelled_members(list.value)) tools.push_back(function_of(tool));
  return tools;
}

Call call_of(const SpelledMember& entry) {
  const auto function = spelled_members(function_of(entry)), outer = spelled_members(entry.value);
  Call call;
  if (const auto* id = member(outer, "id"); id && id->is_text) call.id = id->value;
  const auto *name = member(function, "name"), *arguments = member(function, "arguments");
  if (!name || !name->is_text) throw RecipeError("a call has no name");
  if (!arguments) throw RecipeError(fmt::format("the call of {} has no arguments", printable(name->value)));
  call.name = name->value;
  try {
    if (!parse_json(arguments->value, "").is_object()) throw RecipeError("");
  } catch (const Error&) {
    throw RecipeError(
        fmt::format("the arguments of the call of {} are no JSON object", printable(call.name)));
  }
  call.arguments = spelled_members(arguments->value);
  return call;
}

class Conversation {
 public:
  Conversation(const Version& version, const Messages& messages, bool header)
      : version_(version), messages_(messages), header_(header), thinking_(version.thinking) {
    for (size_t i = 0; i < messages.size(); ++i) fields_.push_back(fields_of(i));
    read_beside();
    for (size_t i = 0; i < messages.size(); ++i)
      if (is_asking(i)) last_asking_ = i + 1;
    // V4 keeps all thoughts where there are tools.
    keeps_thoughts_ = version.four && has_tools_;
  }

  Pieces pieces() {
    if (header_ && (messages_.empty() || !may_open(messages_.size() - 1)))
      throw RecipeError(fmt::format("template {}: a reply follows a message of the user or a tool's result",
                                    version_.family));
    pieces_.control("<｜begin▁of▁sentence｜>");
    write_tools(tools_);
    for (size_t i = 0; i < messages_.size(); ++i) {
      const auto& role = messages_[i].role;
      if (role == "system") write_system(i);
      else if (role == "assistant") write_answer(i);
      else if (role == "latest_reminder") write_reminder(i);
      else if (version_.four) write_asking4(i);
      else write_asking32(i);
    }
    return pieces_.take();
  }

 private:
  bool is_last(size_t i) const { return i + 1 == messages_.size(); }
  const std::string& role(size_t i) const { return messages_[i].role; }
  bool is_asking(size_t i) const {
    return role(i) == "user" || role(i) == "developer" || (version_.four && role(i) == "tool");
  }
  bool may_open(size_t i) const { return is_asking(i) || role(i) == "tool" || !fields_[i].task.empty(); }

  Fields fields_of(size_t i) const {
    const auto& message = messages_[i];
    Fields fields;
    const bool instructs = message.role == "system" || message.role == "developer";
    for (const auto& field : spelled_members("{" + message.fields + "}")) {
      const auto& name = field.name;
      try {
        if (name == "tools" && instructs) fields.tools = tools_of(field);
        else if (name == "response_format" && instructs)
          fields.response_format = field.is_text ? Json(field.value).dump() : field.value;
        else if (name == "tool_calls" && message.role == "assistant")
          for (const auto& call : spelled_members(field.value)) fields.calls.push_back(call_of(call));
        else if (name == "tool_call_id" && message.role == "tool") fields.call_id = field.value;
        else if (name == "task" && version_.four) fields.task = field.value;
        else if (name == "wo_eos" && version_.four) fields.ends = field.value != "true";
        else if (name == "tools" || name == "tool_calls" || name == "tool_call_id" ||
                 name == "response_format" || name == "function_call" ||
                 (name == "name" && message.role != "tool"))
          throw RecipeError(fmt::format("the built-in template {} does not write it there", version_.family));
      } catch (const RecipeError& error) { refuse(i, name + ": " + error.what()); }
    }
    if (!fields.task.empty() &&
        std::find(std::begin(kTasks), std::end(kTasks), fields.task) == std::end(kTasks))
      refuse(i, fmt::format("task '{}': expected one of action, query, authority, domain, title, read_url",
                            printable(fields.task)));
    return fields;
  }

  // Tools of the whole conversation belong to the instructions in front; without any they stand alone.
  void read_beside() {
    has_tools_ = std::any_of(fields_.begin(), fields_.end(),
                             [](const Fields& fields) { return !fields.tools.empty(); });
    for (const auto& message : messages_)
      for (const auto& field : spelled_members("{" + message.beside + "}")) {
        if (field.name == "enable_thinking" || field.name == "thinking") {
          if (field.value != "true" && field.value != "false")
            throw RecipeError(field.name + ": expected true or false");
          thinking_ = field.value == "true";
          continue;
        }
        if (field.name != "tools")
          throw RecipeError(
              fmt::format("{}: the built-in template {} does not write it; leave such records "
                          "out (on_bad_record: skip)",
                          printable(field.name), version_.family));
        const auto tools = tools_of(field);
        const bool leads = role(0) == "system" || role(0) == "developer";
        if (leads && !fields_[0].tools.empty())
          throw RecipeError("tools: the record and its first message bring some; leave out one of them");
        (leads ? fields_[0].tools : tools_) = tools;
        has_tools_ = has_tools_ || !tools.empty();
      }
  }

  // The template's own words, in which marks are tokens.
  void write_words(std::string_view text) {
    while (!text.empty()) {
      size_t at = text.size();
      std::string_view mark;
      for (const auto one : {kDsml, kThink, kThought})
        if (const auto found = text.find(one); found < at) at = found, mark = one;
      pieces_.text(text.substr(0, at));
      if (mark.empty()) return;
      if (mark == kDsml) pieces_.control_if_known(mark);
      else pieces_.control(mark);
      text.remove_prefix(at + mark.size());
    }
  }

  void write_tools(const std::vector<std::string>& tools) {
    if (tools.empty()) return;
    pieces_.text("\n\n");
    write_words(version_.four ? kTools4 : kTools32);
    for (size_t t = 0; t < tools.size(); ++t) pieces_.text((t > 0 ? "\n" : "") + tools[t]);
    pieces_.text(version_.four ? kToolsEnd4 : kToolsEnd32);
  }

  void write_instructions(size_t i) {
    write_tools(fields_[i].tools);
    if (!fields_[i].response_format.empty())
      pieces_.text("\n\n").text(kResponseFormat).text(fields_[i].response_format);
  }

  void write_system(size_t i) {
    pieces_.text(messages_[i].content);
    write_instructions(i);
    open_task(i);
  }

  void write_reminder(size_t i) {
    if (!version_.four)
      refuse(i, fmt::format("role '{}' is not known to template {}", role(i), version_.family));
    if (i > 0 && is_asking(i - 1)) refuse(i, "a latest_reminder stands before the message of the user");
    pieces_.control("<｜latest_reminder｜>").text(messages_[i].content);
    open_task(i);
  }

  // The mark of a reply's beginning behind message i. The answer before the last question was given with a
  // thought that is gone.
  std::string_view thought_mark(size_t i) const {
    return thinking_ && (keeps_thoughts_ || i + 1 >= last_asking_) ? kThink : kThought;
  }

  void require_instructions_stay(size_t i) const {
    if (role(i) != "developer") return;
    if (messages_[i].content.empty()) refuse(i, "role 'developer': has no content");
    if (thinking_ && !keeps_thoughts_ && i + 1 < last_asking_)
      refuse(i, fmt::format("role 'developer': template {} leaves it out once a later question follows",
                            version_.family));
  }

  void write_asking32(size_t i) {
    const auto& content = messages_[i].content;
    require_instructions_stay(i);
    if (role(i) == "tool") return write_result32(i);
    if (role(i) != "user" && role(i) != "developer")
      refuse(i, fmt::format("role '{}' is not known to template {}", printable(role(i)), version_.family));
    pieces_.control(kUser);
    if (role(i) == "developer") {
      write_instructions(i);
      pieces_.text("\n\n# The user's message is: ");
    }
    pieces_.text(content);
    if (!is_last(i) || header_) pieces_.control(kAssistant).control(thought_mark(i));
  }

  // Results stand in one block behind the calls, in their order.
  void write_result32(size_t i) {
    size_t calls = i;
    while (calls > 0 && role(calls) == "tool") --calls;
    const auto expected = role(calls) == "assistant" ? fields_[calls].calls.size() : 0;
    const auto number = i - calls;
    if (number == 0 || number > expected || (number < expected && (is_last(i) || role(i + 1) != "tool")))
      refuse(i, fmt::format("role 'tool': template {} writes one result of each call; found {} of {}",
                            version_.family, number, expected));
    if (number == 1) pieces_.text("\n\n<function_results>");
    pieces_.text("\n<result>" + messages_[i].content + "</result>");
    if (number < expected) return;
    pieces_.text("\n</function_results>");
    if (!is_last(i) || header_) pieces_.text("\n\n").control(thought_mark(i));
  }

  // Neighbouring questions and results are one turn of the user.
  void write_asking4(size_t i) {
    require_instructions_stay(i);
    if (role(i) != "user" && role(i) != "tool" && role(i) != "developer")
      refuse(i, fmt::format("role '{}' is not known to template {}", printable(role(i)), version_.family));
    const auto before = fields_.begin() + static_cast<std::ptrdiff_t>(i);
    if (role(i) == "tool" &&
        std::all_of(fields_.begin(), before, [](const Fields& fields) { return fields.calls.empty(); }))
      refuse(i, "role 'tool': a result of no call");
    const bool joins = i > 0 && (role(i - 1) == "user" || role(i - 1) == "tool") && role(i) != "developer" &&
                       (role(i) == "tool" || fields_[i - 1].task.empty());
    if (joins) pieces_.text("\n\n");
    else pieces_.control(kUser);
    if (role(i) == "tool") pieces_.text("<tool_result>" + messages_[result_at(i)].content + "</tool_result>");
    else pieces_.text(messages_[i].content);
    if (role(i) == "developer") write_instructions(i);
    if (!opens_reply(i)) return;
    if (!fields_[i].task.empty()) return open_task(i);
    pieces_.control(kAssistant).control(thought_mark(i));
  }

  bool opens_reply(size_t i) const { return is_last(i) ? header_ : role(i + 1) == "assistant"; }

  void open_task(size_t i) {
    const auto& task = fields_[i].task;
    if (task.empty() || !opens_reply(i)) return;
    if (task == "action") pieces_.control(kAssistant).control(thinking_ ? kThink : kThought);
    pieces_.control("<｜" + task + "｜>");
  }

  // Which message's result stands in the place of message i: they are in the order of the calls.
  size_t result_at(size_t i) const {
    size_t first = i;
    while (first > 0 && (role(first - 1) == "tool" || role(first - 1) == "user")) --first;
    std::map<std::string, size_t> order;
    for (size_t m = first; m > 0 && order.empty(); --m)
      for (size_t c = 0; c < fields_[m - 1].calls.size(); ++c)
        if (!fields_[m - 1].calls[c].id.empty()) order[fields_[m - 1].calls[c].id] = c;
    std::vector<size_t> results;
    size_t place = 0;
    for (size_t m = first; m < messages_.size() && (role(m) == "tool" || role(m) == "user"); ++m) {
      if (m == i) place = results.size();
      if (role(m) == "tool") results.push_back(m);
    }
    const auto rank = [&](size_t m) {
      const auto found = order.find(fields_[m].call_id);
      return found == order.end() ? 0 : found->second;
    };
    std::stable_sort(results.begin(), results.end(), [&](size_t x, size_t y) { return rank(x) < rank(y); });
    return results[place];
  }

  void write_answer(size_t i) {
    const auto& message = messages_[i];
    const auto answer = static_cast<int32_t>(i);
    if (i == 0 || !may_open(i - 1))
      refuse(i, fmt::format("template {}: an answer follows a message of the user or a tool's result",
                            version_.family));
    std::string_view thought, spoken = message.content;
    const auto close = spoken.rfind(kThought);
    const bool thinks = close != std::string_view::npos;
    if (thinks && !message.thought.empty()) {
      thought = message.thought, spoken = message.spoken;
    } else if (thinks) {
      thought = trimmed(spoken.substr(0, close));
      if (thought.starts_with(kThink)) thought = trimmed(thought.substr(kThink.size()));
      spoken.remove_prefix(close + kThought.size());
      spoken.remove_prefix(std::min(spoken.find_first_not_of('\n'), spoken.size()));
    }
    const bool of_task = !fields_[i - 1].task.empty();
    const bool current = keeps_thoughts_ || i + 1 > last_asking_;
    if (thinking_ && current && !of_task) {
      if (!version_.four && !thinks && fields_[i].calls.empty())
        refuse(i, fmt::format("template {} begins each reply with a thought, but this answer has none; set "
                              "template: {}, or enable_thinking: false in the record",
                              version_.family, version_.other));
      pieces_.text(thought, answer).control(kThought, answer);
    } else if (thinks && current) {
      refuse(i, fmt::format("this answer holds a thought, which {} does not write; set template: {}, or "
                            "enable_thinking: true in the record",
                            of_task ? "the answer of a task" : "this mode of the template", version_.other));
    }
    pieces_.text(spoken, answer);
    write_calls(fields_[i].calls, answer);
    if (fields_[i].ends) pieces_.control("<｜end▁of▁sentence｜>", answer);
    open_task(i);
  }

  void write_calls(const std::vector<Call>& calls, int32_t answer) {
    if (calls.empty()) return;
    const std::string block = version_.four ? "tool_calls" : "function_calls";
    const auto mark = [&](std::string_view before, const std::string& behind) {
      pieces_.text(before, answer).control_if_known(kDsml, answer).text(behind, answer);
    };
    mark("\n\n<", block + ">");
    for (const auto& call : calls) {
      mark("\n<", "invoke name=\"" + call.name + "\">\n");
      for (size_t a = 0; a < call.arguments.size(); ++a) {
        const auto& [name, is_text, value] = call.arguments[a];
        mark(a > 0 ? "\n<" : "<",
             fmt::format("parameter name=\"{}\" string=\"{}\">{}", name, is_text, value));
        mark("</", "parameter>");
      }
      mark("\n</", "invoke>");
    }
    mark("\n</", block + ">");
  }

  const Version& version_;
  const Messages& messages_;
  bool header_, thinking_, has_tools_ = false, keeps_thoughts_ = false;
  size_t last_asking_ =
      0;  // behind the last message of a user (in V4 also the last result); 0: there is none
  std::vector<Fields> fields_;
  std::vector<std::string> tools_;  // of a conversation without instructions
  PieceList pieces_;
};

Pieces render(const Version& version, const Messages& messages, bool header) {
  return Conversation(version, messages, header).pieces();
}

}  // namespace

Pieces render_deepseek_v32(const Messages& messages, bool add_reply_header) {
  return render({"deepseek-v3.2", "deepseek-v3.2-thinking", false, false}, messages, add_reply_header);
}
Pieces render_deepseek_v32_thinking(const Messages& messages, bool add_reply_header) {
  return render({"deepseek-v3.2-thinking", "deepseek-v3.2", false, true}, messages, add_reply_header);
}
Pieces render_deepseek_v4(const Messages& messages, bool add_reply_header) {
  return render({"deepseek-v4", "deepseek-v4-thinking", true, false}, messages, add_reply_header);
}
Pieces render_deepseek_v4_thinking(const Messages& messages, bool add_reply_header) {
  return render({"deepseek-v4-thinking", "deepseek-v4", true, true}, messages, add_reply_header);
}

}  // namespace retort
