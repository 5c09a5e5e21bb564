#include "data/reshape.h"

#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/json.h"
#include "data/json_path.h"
#include "data/json_records.h"

namespace retort {
namespace {

constexpr std::string_view kRecordFields[] = {
    "messages", "instruction", "output", "prompt", "completion", "text",           "system",
    "input",    "history",     "tools",  "label",  "documents",  "enable_thinking"};
constexpr size_t kNeeded = 6;  // the first of them: a record cannot be without the one that is mapped
constexpr std::string_view kMessageFields[] = {"role",       "content",      "weight", "reasoning_content",
                                               "tool_calls", "tool_call_id", "name"};
constexpr std::string_view kRoles[] = {"system", "user", "assistant", "tool", "function", "developer"};
constexpr std::string_view kLists[] = {"messages", "conversations", "prompt", "completion"};

bool is_one_of(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string text_of(const std::string& json, const std::string& key) {
  const auto value = Json::parse(json, nullptr, false);
  if (!value.is_string() || value.get_ref<const std::string&>().empty())
    throw RecipeError(fmt::format("{}: expected a name, found {}", key, printable(json)));
  return value.get<std::string>();
}

std::string listed(std::span<const std::string_view> names) {
  std::string all;
  for (const auto name : names) all += (all.empty() ? "" : ", ") + std::string(name);
  return all;
}

std::string member(std::string_view name, std::string_view json) {
  return Json(name).dump() + ":" + std::string(json);
}

}  // namespace

Reshape::Reshape(const SourceSpec& source, const std::string& where) {
  for (const auto& [ours, json] : source.fields_of_records.entries) {
    const auto theirs = text_of(json, fmt::format("{}.fields.{}", where, printable(ours)));
    if (is_one_of(kRecordFields, ours)) record_.emplace_back(ours, theirs);
    else if (is_one_of(kMessageFields, ours)) message_.emplace_back(ours, theirs);
    else
      throw RecipeError(
          fmt::format("{}.fields: '{}' is nothing that is read; expected {} of a record, {} of a "
                      "message, each with the file's own word for it",
                      where, printable(ours), listed(kRecordFields), listed(kMessageFields)));
  }
  for (const auto& [theirs, json] : source.roles.entries) {
    const auto ours = text_of(json, fmt::format("{}.roles.{}", where, printable(theirs)));
    if (!is_one_of(kRoles, ours))
      throw RecipeError(fmt::format("{}.roles.{}: expected one of {}, found '{}'", where, printable(theirs),
                                    listed(kRoles), printable(ours)));
    roles_.emplace_back(ours, theirs);
  }
}

std::string Reshape::record(std::string_view line, std::string_view place) const {
  const auto members = json_parts(line);
  std::string out;
  const auto add = [&](std::string_view name, std::string_view json) {
    const bool list = json.starts_with('[') && is_one_of(kLists, name);
    out += (out.empty() ? "" : ",") + member(name, list ? messages(json, place) : std::string(json));
  };
  const auto moved = [&](std::string_view name, auto side) {
    return std::find_if(record_.begin(), record_.end(),
                        [&](const auto& names) { return names.*side == name; });
  };
  for (const auto& [name, json] : members) {
    const auto ours = moved(name, &Names::value_type::first);
    if (ours != record_.end() && ours->second != name)
      corrupt(place, name,
              fmt::format("stands beside '{}', which data.sources.fields reads for it; leave one of them out",
                          printable(ours->second)));
    if (moved(name, &Names::value_type::second) == record_.end()) add(name, json);
  }
  for (const auto& [ours, theirs] : record_) {
    if (const auto json = json_inside(line, theirs)) add(ours, *json);
    else if (is_one_of(std::span(kRecordFields).first(kNeeded), ours))
      corrupt(place, theirs, fmt::format("this key is missing; data.sources.fields reads {} from it", ours));
  }
  return "{" + out + "}";
}

std::string Reshape::messages(std::string_view list, std::string_view place) const {
  std::string out;
  size_t number = 0;
  for (const auto& [name, json] : json_parts(list)) {
    const auto where = fmt::format("{}: message {}", place, ++number);
    out += (out.empty() ? "" : ",") + (json.starts_with('{') ? message(json, where) : json);
  }
  return "[" + out + "]";
}

std::string Reshape::message(std::string_view json, const std::string& where) const {
  const auto members = json_parts(json);
  const auto has = [&](std::string_view name) {
    return std::any_of(members.begin(), members.end(), [&](const auto& one) { return one.first == name; });
  };
  std::string out;
  for (auto [name, value] : members) {
    for (const auto& [ours, theirs] : message_) {
      if (name == ours && theirs != ours && has(theirs))
        corrupt(
            where, name,
            fmt::format("stands beside '{}', which data.sources.fields reads for it; leave one of them out",
                        printable(theirs)));
      if (name == theirs) {
        name = ours;
        break;
      }
    }
    if ((name == "role" || name == "from") && value.starts_with('"')) {
      const auto spoken = Json::parse(value).get<std::string>();
      for (const auto& [ours, theirs] : roles_)
        if (spoken == theirs) value = Json(ours).dump();
    }
    out += (out.empty() ? "" : ",") + member(name, value);
  }
  return "{" + out + "}";
}

Columns Reshape::columns(Columns columns, std::string_view place) const {
  for (const auto& [ours, theirs] : record_) {
    const auto at = [&](const std::string& name) {
      return std::find_if(columns.begin(), columns.end(), [&](const auto& one) { return one.first == name; });
    };
    if (ours != theirs && at(ours) != columns.end() && at(theirs) != columns.end())
      corrupt(place, ours,
              fmt::format("stands beside '{}', which data.sources.fields reads for it; leave one of them out",
                          printable(theirs)));
    if (const auto found = at(theirs); found != columns.end()) found->first = ours;
  }
  return columns;
}

}  // namespace retort
