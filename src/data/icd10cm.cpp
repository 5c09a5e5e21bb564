// A bounded reader of one XML vocabulary: elements, attributes skipped, five entities and character
// references, comments. No DTD, no entity definitions, no external anything.
#include <charconv>

#include "base/error.h"
#include "base/stop.h"
#include "data/readers.h"

namespace retort {
namespace {

constexpr size_t kDeepest = 32, kLongestText = 64 << 10;

enum class XmlEvent { open, close, text, end };

class XmlScanner {
 public:
  XmlScanner(std::string_view content, std::string_view file) : content_(content), file_(file) {}

  // name() after open and close, text() (decoded) after text. An empty element gives open, then close.
  XmlEvent next() {
    if (pending_close_) {
      pending_close_ = false;
      return XmlEvent::close;
    }
    while (at_ < content_.size()) {
      if (content_[at_] != '<') return take_text();
      if (skip("<!--", "-->") || skip("<?", "?>")) continue;
      if (content_.substr(at_).starts_with("<!")) fail("document types and CDATA are not read");
      return take_tag();
    }
    if (!open_.empty()) fail("ends inside <" + open_.back() + ">; is the download complete?");
    return XmlEvent::end;
  }
  const std::string& name() const { return name_; }
  const std::string& text() const { return text_; }
  [[noreturn]] void fail(const std::string& problem) const {
    corrupt(file_, fmt::format("byte {}", at_), problem);
  }

 private:
  bool skip(std::string_view begin, std::string_view end) {
    if (!content_.substr(at_).starts_with(begin)) return false;
    const auto stop = content_.find(end, at_ + begin.size());
    if (stop == std::string_view::npos) fail(fmt::format("'{}' without '{}'", begin, end));
    at_ = stop + end.size();
    return true;
  }

  XmlEvent take_text() {
    const auto end = std::min(content_.find('<', at_), content_.size());
    if (end - at_ > kLongestText) fail("text of more than " + bytes(kLongestText));
    text_.clear();
    while (at_ < end) {
      const char c = content_[at_];
      if (c == '&') decode_entity(end);
      else text_ += c, ++at_;
    }
    return XmlEvent::text;
  }

  void decode_entity(size_t end) {
    const auto stop = content_.find(';', at_);
    if (stop == std::string_view::npos || stop >= end || stop - at_ > 10) fail("'&' that begins no entity");
    const auto entity = content_.substr(at_ + 1, stop - at_ - 1);
    uint32_t code = 0;
    if (entity == "amp") code = '&';
    else if (entity == "lt") code = '<';
    else if (entity == "gt") code = '>';
    else if (entity == "quot") code = '"';
    else if (entity == "apos") code = '\'';
    else if (entity.starts_with('#')) {
      const bool hex = entity.size() > 2 && (entity[1] == 'x' || entity[1] == 'X');
      const auto digits = entity.substr(hex ? 2 : 1);
      const auto [last, error] =
          std::from_chars(digits.data(), digits.data() + digits.size(), code, hex ? 16 : 10);
      if (error != std::errc() || last != digits.data() + digits.size() || code == 0 || code > 0x10FFFF ||
          (code >= 0xD800 && code < 0xE000))
        fail("character reference out of range");
    } else {
      fail("unknown entity; only the five of XML and character references are read");
    }
    append_utf8(code);
    at_ = stop + 1;
  }

  void append_utf8(uint32_t code) {
    if (code < 0x80) {
      text_ += static_cast<char>(code);
    } else if (code < 0x800) {
      text_ += static_cast<char>(0xC0 | (code >> 6));
      text_ += static_cast<char>(0x80 | (code & 63));
    } else {
      if (code < 0x10000) text_ += static_cast<char>(0xE0 | (code >> 12));
      else
        text_ += static_cast<char>(0xF0 | (code >> 18)),
            text_ += static_cast<char>(0x80 | ((code >> 12) & 63));
      text_ += static_cast<char>(0x80 | ((code >> 6) & 63));
      text_ += static_cast<char>(0x80 | (code & 63));
    }
  }

  XmlEvent take_tag() {
    const bool closing = content_.substr(at_).starts_with("</");
    size_t end = at_ + 1;
    char quote = 0;
    for (; end < content_.size() && (quote || content_[end] != '>'); ++end) {
      const char c = content_[end];
      if (quote) quote = c == quote ? 0 : quote;
      else if (c == '"' || c == '\'') quote = c;
      else if (c == '<') fail("'<' inside a tag");
      if (end - at_ > kLongestText) fail("tag of more than " + bytes(kLongestText));
    }
    if (end >= content_.size()) fail("tag without '>'");
    auto inside = content_.substr(at_ + (closing ? 2 : 1), end - at_ - (closing ? 2 : 1));
    const bool empty = !closing && inside.ends_with('/');
    if (empty) inside.remove_suffix(1);
    name_ = std::string(inside.substr(0, inside.find_first_of(" \t\r\n")));
    if (name_.empty()) fail("tag without a name");
    if (closing) {
      if (open_.empty() || open_.back() != name_) fail("</" + printable(name_) + "> closes no open element");
      open_.pop_back();
    } else if (!empty) {
      if (open_.size() >= kDeepest) fail(fmt::format("nested deeper than {} levels", kDeepest));
      open_.push_back(name_);
    }
    at_ = end + 1;
    pending_close_ = empty;
    return closing ? XmlEvent::close : XmlEvent::open;
  }

  std::string_view content_;
  std::string file_, name_, text_;
  std::vector<std::string> open_;
  size_t at_ = 0;
  bool pending_close_ = false;
};

// A diagnosis that is open: its children follow inside it, so it is delivered as soon as the first child or
// its end comes.
struct Diagnosis {
  std::string code, description, terms;
  bool delivered = false;
};

std::string squeezed(const std::string& text) {  // runs of white space become one space, none at the ends
  std::string out;
  for (const char c : text) {
    if (c != ' ' && c != '\n' && c != '\r' && c != '\t') out += c;
    else if (!out.empty() && out.back() != ' ') out += ' ';
  }
  if (out.ends_with(' ')) out.pop_back();
  return out;
}

// "Intestinal infectious diseases (A00-A09)" -> without the range.
std::string without_range(std::string text) {
  const auto open = text.rfind(" (");
  if (open != std::string::npos && text.ends_with(')')) text.resize(open);
  return text;
}

}  // namespace

void read_icd10cm(std::string_view content, std::string_view file, const TakeColumns& take) {
  content = without_bom(content);
  require_text(content, file, "");
  XmlScanner xml(content, file);
  std::vector<std::string> path;
  std::vector<Diagnosis> open;
  std::string chapter, chapter_description, section, text;
  size_t codes = 0;
  const auto deliver = [&] {
    if (open.empty() || open.back().delivered) return;
    auto& diagnosis = open.back();
    if (diagnosis.code.size() < 3 || diagnosis.description.empty())
      xml.fail("a diagnosis without a code or description");
    diagnosis.delivered = true;
    take({{"code", diagnosis.code},
          {"description", diagnosis.description},
          {"category", open.front().code},
          {"category_description", open.front().description},
          {"section", section},
          {"chapter", chapter},
          {"chapter_description", chapter_description},
          {"terms", diagnosis.terms}},
         fmt::format("{}:{}", file, diagnosis.code));
    if (++codes % 4096 == 0) leave_if_stopped("reading the ICD-10-CM list");
  };
  while (true) {
    const auto event = xml.next();
    if (event == XmlEvent::end) break;
    if (event == XmlEvent::open) {
      if (path.empty() && xml.name() != "ICD10CM.tabular")
        xml.fail("expected <ICD10CM.tabular>, the tabular list of ICD-10-CM");
      if (xml.name() == "diag") {
        deliver();
        open.emplace_back();
      }
      path.push_back(xml.name());
      text.clear();
    } else if (event == XmlEvent::text) {
      text += xml.text();
    } else {
      const auto parent = path.size() > 1 ? path[path.size() - 2] : std::string();
      if (path.back() == "name" && parent == "diag") open.back().code = squeezed(text);
      else if (path.back() == "desc" && parent == "diag") open.back().description = squeezed(text);
      else if (path.back() == "name" && parent == "chapter") chapter = squeezed(text);
      else if (path.back() == "desc" && parent == "chapter")
        chapter_description = without_range(squeezed(text));
      else if (path.back() == "desc" && parent == "section") section = without_range(squeezed(text));
      else if (path.back() == "note" && parent == "inclusionTerm" && !open.empty())
        open.back().terms += (open.back().terms.empty() ? "" : "; ") + squeezed(text);
      else if (path.back() == "diag") {
        deliver();
        open.pop_back();
      }
      path.pop_back();
      text.clear();
    }
  }
  if (codes == 0) corrupt(file, "", "holds no diagnoses");
}

}  // namespace retort
