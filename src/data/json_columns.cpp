// The members of a JSON line as texts.
#include "data/json_records.h"

namespace retort {
namespace {

// Writes each member of the outermost object as the parser meets it: the tree would sort the keys and read
// the numbers.
class ColumnWriter : public nlohmann::json_sax<Json> {
 public:
  explicit ColumnWriter(bool as_json = false) : as_json_(as_json) {}
  Columns columns;

  bool null() override { return write("null", as_json_ ? "null" : ""); }
  bool boolean(bool value) override { return write(value ? "true" : "false"); }
  // The only whole number below 0 that reads as 0 was written "-0".
  bool number_integer(number_integer_t value) override {
    return write(value == 0 ? "-0" : std::to_string(value));
  }
  bool number_unsigned(number_unsigned_t value) override { return write(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& spelled) override { return write(spelled); }
  bool string(string_t& value) override { return write(quoted(value), as_json_ ? quoted(value) : value); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open('{'); }
  bool start_array(std::size_t) override { return open('['); }
  bool end_object() override { return close('}'); }
  bool end_array() override { return close(']'); }

  bool key(string_t& name) override {
    if (depth_ == 1) {
      columns.emplace_back(name, "");
    } else {
      separate();
      text() += quoted(name) + ":";
      follows_ = false;
    }
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;  // whoever parsed the line has said it
  }

 private:
  static std::string quoted(const std::string& text) { return Json(text).dump(); }
  std::string& text() { return columns.back().second; }
  void separate() {
    if (follows_) text() += ',';
    follows_ = true;
  }
  bool write(const std::string& nested, const std::string& alone) {
    if (depth_ == 0) return true;
    if (depth_ == 1) {
      if (list_) columns.emplace_back("", "");
      text() = alone;
    } else {
      separate();
      text() += nested;
    }
    return true;
  }
  bool write(const std::string& value) { return write(value, value); }
  bool open(char bracket) {
    if (++depth_ == 1) {
      list_ = bracket == '[';
      return true;
    }
    if (depth_ > 2) separate();
    else if (list_) columns.emplace_back("", "");
    text() += bracket;
    follows_ = false;
    return true;
  }
  bool close(char bracket) {
    if (--depth_ == 0) return true;
    text() += bracket;
    follows_ = true;
    return true;
  }
  bool as_json_, list_ = false;
  int depth_ = 0;
  bool follows_ = false;  // something stands before the next value in its list or object
};

}  // namespace

Columns json_columns(std::string_view line) {
  ColumnWriter writer;
  Json::sax_parse(line.begin(), line.end(), &writer);
  return std::move(writer.columns);
}

Columns json_parts(std::string_view json) {
  ColumnWriter writer(true);
  Json::sax_parse(json.begin(), json.end(), &writer);
  return std::move(writer.columns);
}

}  // namespace retort
