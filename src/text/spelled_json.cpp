#include "text/spelled_json.h"

#include "base/error.h"
#include "base/json.h"

namespace retort {
namespace {

class Speller : public nlohmann::json_sax<Json> {
 public:
  std::vector<SpelledMember> members;

  bool null() override { return write("null"); }
  bool boolean(bool value) override { return write(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return write(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return write(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& spelled) override { return write(spelled); }
  bool string(string_t& value) override {
    if (open_.size() != 1) return write(quoted(value));
    begin();
    members.back().is_text = true;
    members.back().value = value;
    return true;
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open('{', '}'); }
  bool start_array(std::size_t) override { return open('[', ']'); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (open_.size() == 1) name_ = name;
    else between(), members.back().value += quoted(name) + ": ", named_ = true;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  static std::string quoted(std::string_view text) {
    return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  // What stands before a value or a name: a comma behind another one, nothing behind a name.
  void between() {
    if (!std::exchange(named_, false) && !first_) members.back().value += ", ";
    first_ = false;
  }
  void begin() {
    if (open_.size() == 1) members.push_back({std::exchange(name_, {}), false, {}});
    else between();
  }
  bool write(std::string_view text) {
    if (open_.empty()) return false;  // neither an object nor a list
    begin();
    members.back().value += text;
    return true;
  }
  bool open(char bracket, char other) {
    if (!open_.empty()) {
      begin();
      members.back().value += bracket;
    }
    open_ += other;
    first_ = true;
    return true;
  }
  bool close() {
    if (open_.size() > 1) members.back().value += open_.back();
    open_.pop_back();
    first_ = false;
    return true;
  }

  std::string open_, name_;  // what closes each that is open; the name of the next member
  bool first_ = true, named_ = false;
};

}  // namespace

std::vector<SpelledMember> spelled_members(std::string_view json) {
  Speller speller;
  if (!Json::sax_parse(json.begin(), json.end(), &speller))
    throw RecipeError("expected a JSON object or list");
  return std::move(speller.members);
}

}  // namespace retort
