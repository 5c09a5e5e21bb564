// What a run keeps as JSON is a struct that lists its fields once, in
//   template <class Visitor> void fields(Visitor& field)
// which calls, in the order of the file,
//   field(name, member)       a truth value, number or text; an optional one of those (null: absent); a list,
//                             set or pair of those, a map by name; another such struct; Json as it stands
//   field.rare(name, member)  the same, left out of the file where it is empty, 0 or absent
// The same list writes (json_of) and reads (read_as): a value of another kind, or one that is missing, is one
// line with file and field. Numbers that are not finite are null, since JSON has none.
#pragma once
#include <cmath>
#include <concepts>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/json.h"

namespace retort {

// Where a value stands, for the line about a wrong one.
struct JsonPlace {
  std::string file;
  std::string path = {};    // "stages.train.values"; empty: the whole file
  std::string advice = {};  // what to do about a wrong value; may be empty

  JsonPlace at(std::string_view name) const;
  JsonPlace at(size_t index) const;
};
// FormatError "FILE: PATH: expected EXPECTED, found ...; ADVICE"; `found` nullptr: it is missing.
[[noreturn]] void wrong_json(const JsonPlace& place, std::string_view expected, const Json* found);

template <class> inline constexpr bool kIsOptional = false;
template <class T> inline constexpr bool kIsOptional<std::optional<T>> = true;
template <class> inline constexpr bool kIsList = false;
template <class T> inline constexpr bool kIsList<std::vector<T>> = true;
template <class T> inline constexpr bool kIsList<std::set<T>> = true;
template <class> inline constexpr bool kIsMap = false;
template <class T> inline constexpr bool kIsMap<std::map<std::string, T>> = true;
template <class> inline constexpr bool kIsPair = false;
template <class A, class B> inline constexpr bool kIsPair<std::pair<A, B>> = true;

template <class AnyJson, class Value> AnyJson json_as(const Value& value);

// AnyJson: Json sorts the keys of an object, OrderedJson leaves them in the order of the fields.
template <class AnyJson> struct JsonWriter {
  AnyJson json = AnyJson::object();
  template <class Member> void operator()(const char* name, const Member& member) {
    json[name] = json_as<AnyJson>(member);
  }
  template <class Member> void rare(const char* name, const Member& member) {
    bool there = true;
    if constexpr (kIsOptional<Member>) there = member.has_value();
    else if constexpr (requires { member.empty(); }) there = !member.empty();
    else there = member != Member{};
    if (there) (*this)(name, member);
  }
};

template <class AnyJson, class Value> AnyJson json_as(const Value& value) {
  if constexpr (std::floating_point<Value>) {
    return std::isfinite(value) ? AnyJson(value) : AnyJson();
  } else if constexpr (kIsOptional<Value>) {
    return value ? json_as<AnyJson>(*value) : AnyJson();
  } else if constexpr (kIsPair<Value>) {
    return AnyJson::array({json_as<AnyJson>(value.first), json_as<AnyJson>(value.second)});
  } else if constexpr (kIsList<Value>) {
    auto list = AnyJson::array();
    for (const auto& each : value) list.push_back(json_as<AnyJson>(each));
    return list;
  } else if constexpr (kIsMap<Value>) {
    auto object = AnyJson::object();
    for (const auto& [name, each] : value) object[name] = json_as<AnyJson>(each);
    return object;
  } else if constexpr (requires(Value copy, JsonWriter<AnyJson> writer) { copy.fields(writer); }) {
    JsonWriter<AnyJson> writer;
    auto copy = value;  // fields() hands out members that may be changed
    copy.fields(writer);
    return std::move(writer.json);
  } else {
    return AnyJson(value);
  }
}
template <class Value> Json json_of(const Value& value) { return json_as<Json>(value); }

template <class Value> Value read_as(const Json& json, const JsonPlace& place);

class JsonReader {
 public:
  JsonReader(const Json& object, const JsonPlace& place) : object_(object), place_(place) {
    if (!object.is_object()) wrong_json(place, "an object", &object);
  }
  template <class Member> void operator()(const char* name, Member& member) {
    const auto found = object_.find(name);
    if (found == object_.end()) wrong_json(place_.at(name), "", nullptr);
    member = read_as<Member>(*found, place_.at(name));
  }
  template <class Member> void rare(const char* name, Member& member) {
    if (object_.contains(name)) (*this)(name, member);
    else member = Member{};
  }

 private:
  const Json& object_;
  const JsonPlace& place_;
};

template <class Value> Value read_as(const Json& json, const JsonPlace& place) {
  if constexpr (std::same_as<Value, Json>) {
    return json;
  } else if constexpr (std::same_as<Value, bool>) {
    if (!json.is_boolean()) wrong_json(place, "true or false", &json);
    return json.get<bool>();
  } else if constexpr (std::integral<Value>) {
    const bool fits = json.is_number_unsigned()
                          ? std::in_range<Value>(json.get<uint64_t>())
                          : json.is_number_integer() && std::in_range<Value>(json.get<int64_t>());
    if (!fits)
      wrong_json(place, std::is_signed_v<Value> ? "a whole number" : "a whole number that is not negative",
                 &json);
    return json.get<Value>();
  } else if constexpr (std::floating_point<Value>) {
    if (json.is_null()) return std::numeric_limits<Value>::quiet_NaN();
    if (!json.is_number()) wrong_json(place, "a number", &json);
    return json.get<Value>();
  } else if constexpr (std::same_as<Value, std::string>) {
    if (!json.is_string()) wrong_json(place, "a text", &json);
    return json.get<std::string>();
  } else if constexpr (kIsOptional<Value>) {
    return json.is_null() ? Value() : Value(read_as<typename Value::value_type>(json, place));
  } else if constexpr (kIsPair<Value>) {
    if (!json.is_array() || json.size() != 2) wrong_json(place, "a list of two", &json);
    return {read_as<typename Value::first_type>(json[0], place.at(size_t{0})),
            read_as<typename Value::second_type>(json[1], place.at(size_t{1}))};
  } else if constexpr (kIsList<Value>) {
    if (!json.is_array()) wrong_json(place, "a list", &json);
    Value list;
    for (size_t i = 0; i < json.size(); ++i)
      list.insert(list.end(), read_as<typename Value::value_type>(json[i], place.at(i)));
    return list;
  } else if constexpr (kIsMap<Value>) {
    if (!json.is_object()) wrong_json(place, "an object", &json);
    Value map;
    for (const auto& [name, each] : json.items())
      map.emplace(name, read_as<typename Value::mapped_type>(each, place.at(name)));
    return map;
  } else {
    JsonReader reader(json, place);
    Value value;
    value.fields(reader);
    return value;
  }
}

}  // namespace retort
