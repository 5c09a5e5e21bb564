#include "text/final_answer.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <vector>

#include "text/chat_pieces.h"

namespace retort {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// The text between the brace at `open` and its partner, or nullopt.
std::optional<std::string_view> braced(std::string_view text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return text.substr(open + 1, i - open - 1);
  }
  return std::nullopt;
}

std::optional<std::string> last_boxed(std::string_view text) {
  const auto boxed = text.rfind("\\boxed"), framed = text.rfind("\\fbox");
  const auto at = boxed == std::string_view::npos    ? framed
                  : framed == std::string_view::npos ? boxed
                                                     : std::max(boxed, framed);
  if (at == std::string_view::npos) return std::nullopt;
  const auto open = text.find_first_not_of(' ', text.find_first_not_of("\\abcdefghijklmnopqrstuvwxyz", at));
  if (open == std::string_view::npos) return std::nullopt;
  if (text[open] == '{') {
    if (const auto inner = braced(text, open)) return std::string(*inner);
    return std::nullopt;
  }
  return std::string(trimmed(text.substr(open, text.find_first_of("$ \n", open) - open)));  // "\boxed 5"
}

// One spelling for what has several: U+2212 is a minus sign, "9{,}500" is 9,500.
std::string plainly_spelled(std::string_view text) {
  std::string plain(text);
  replace_all(plain, "\xe2\x88\x92", "-");
  replace_all(plain, "{,}", ",");
  return plain;
}

// Where "e5", "E-3" and the like end; `at` when there is no exponent. "5eggs" has none.
size_t after_exponent(std::string_view text, size_t at) {
  if (at >= text.size() || (text[at] != 'e' && text[at] != 'E')) return at;
  size_t end = at + 1;
  if (end < text.size() && (text[end] == '-' || text[end] == '+')) ++end;
  const auto digits = end;
  while (end < text.size() && digit(text[end])) ++end;
  return end == digits || (end < text.size() && letter(text[end])) ? at : end;
}

// The end of digits with thousands separators, a fraction or a decimal part, and an exponent.
size_t after_number(std::string_view text, size_t at) {
  const auto begin = at;
  bool fraction = false;
  while (at < text.size()) {
    const bool inner = (text[at] == '.' || text[at] == ',' || text[at] == '/') && at > begin &&
                       digit(text[at - 1]) && at + 1 < text.size() && digit(text[at + 1]);
    if (!digit(text[at]) && !inner) break;
    fraction = fraction || text[at] == '/';
    ++at;
  }
  return fraction || (begin > 0 && letter(text[begin - 1])) ? at : after_exponent(text, at);
}

std::optional<std::string> last_number(std::string_view text) {
  std::optional<std::string> last;
  for (size_t i = 0; i < text.size();) {
    if (!digit(text[i])) {
      ++i;
      continue;
    }
    auto begin = i;
    i = after_number(text, i);
    if (begin > 0 && letter(text[begin - 1]) && i < text.size() && letter(text[i])) continue;    // "H2O"
    if (begin > 0 && text[begin - 1] == '.' && (begin < 2 || !digit(text[begin - 2]))) --begin;  // ".5"
    if (begin > 0 && text[begin - 1] == '-') --begin;
    last = std::string(text.substr(begin, i - begin));
  }
  return last;
}

// "(B)" -> "B": the letter of an option.
std::optional<std::string> last_option(std::string_view text) {
  for (size_t i = text.size(); i >= 3; --i)
    if (text[i - 3] == '(' && text[i - 2] >= 'A' && text[i - 2] <= 'Z' && text[i - 1] == ')')
      return std::string(text.substr(i - 2, 1));
  return std::nullopt;
}

// Without what sets an answer off from its sentence: **42**, \(42\), `42`, ": 42".
std::string bare(std::string_view text) {
  std::string plain(text);
  for (const std::string_view gone : {"**", "__", "\\(", "\\)", "\\[", "\\]", "`"})
    replace_all(plain, gone, "");
  std::string_view view = trimmed(plain);
  while (view.starts_with(':')) view = trimmed(view.substr(1));
  return std::string(view);
}

// Words that belong to the value before them, so that "2 pi" is not 2 and "5 million" is not 5.
bool part_of_value(std::string_view word) {
  static constexpr std::string_view kWords[] = {"pi",      "sqrt",    "x",        "times",   "plus",
                                                "minus",   "over",    "divided",  "hundred", "thousand",
                                                "million", "billion", "trillion", "dozen",   "to"};
  return word.size() < 2 || std::find(std::begin(kWords), std::end(kWords), word) != std::end(kWords);
}

// How many bytes at the start are a number that words follow: 1 of "5 apples", 3 of "$18 per day". 0 when it
// does not begin so.
size_t number_before_words(std::string_view text) {
  size_t at = 0;
  for (const std::string_view sign : {"-", "\\$", "$", "€", "£", "¥", "-"})
    if (text.substr(at).starts_with(sign)) at += sign.size();
  if (at + 1 < text.size() && text[at] == '.' && digit(text[at + 1])) ++at;
  if (at >= text.size() || !digit(text[at])) return 0;
  const auto end = after_number(text, at);
  auto rest = text.substr(end);
  if (rest.starts_with('$')) rest.remove_prefix(1);  // "$5$ apples"
  if (rest.starts_with(", ") || rest.starts_with("; ") || rest.starts_with(" (") || rest.starts_with(": ") ||
      rest.starts_with(" because") || rest.starts_with("\xef\xbc\x8c"))
    return end;
  if (!rest.starts_with(' ')) return 0;
  rest = trimmed(rest);
  size_t word = 0;
  while (word < rest.size() && letter(rest[word])) ++word;
  if (word < rest.size() && static_cast<unsigned char>(rest[word]) >= 0x80) return end;  // "5 größere"
  return word == 0 || part_of_value(rest.substr(0, word)) ? 0 : end;
}

// The answer in what follows "answer is": without the words around it.
std::string answer_in(std::string_view sentence) {
  auto answer = bare(sentence);
  if (const auto number = number_before_words(answer)) return answer.substr(0, number);
  if (const auto option = last_option(answer); option && !answer.starts_with('\\')) return *option;
  size_t longest_word = 0;
  for (size_t i = 0, word = 0; i < answer.size(); ++i) {
    word = letter(answer[i]) ? word + 1 : 0;
    if (word == i + 1 || answer[i - word] == ' ') longest_word = std::max(longest_word, word);
  }
  // "approximately 5 apples"; a formula ("x^2 + 1", "\sqrt{3}") stays as it is.
  if (longest_word >= 3 && answer.find('\\') == std::string::npos)
    if (const auto number = last_number(answer)) return *number;
  return answer;
}

// Where the text after the last "answer is" or "answer:" begins, whatever the case.
size_t after_answer_is(std::string_view text) {
  std::string lower(text);
  for (auto& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  size_t last = std::string::npos;
  for (const std::string_view mark : {"answer is", "answer:", "answer**:"})
    if (const auto at = lower.rfind(mark); at != std::string::npos)
      last = last == std::string::npos ? at + mark.size() : std::max(last, at + mark.size());
  return last;
}

// Up to the end of the sentence or the line.
std::string_view first_sentence(std::string_view text) {
  text = text.substr(0, text.find('\n'));
  size_t stop = 0;
  while (stop < text.size() &&
         !(text[stop] == '.' && (stop + 1 == text.size() || text[stop + 1] == ' ' || text[stop + 1] == '*')))
    ++stop;
  return text.substr(0, stop);
}

// "\frac12" -> "\frac{1}{2}"; "\frac{1}2" -> "\frac{1}{2}".
std::string with_braced_fractions(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text.compare(i, 5, "\\frac") != 0) {
      out += text[i++];
      continue;
    }
    out += "\\frac";
    i += 5;
    for (int part = 0; part < 2 && i < text.size(); ++part) {
      if (text[i] == '{') {
        const auto inner = braced(text, i);
        if (!inner) break;
        out += "{" + with_braced_fractions(std::string(*inner)) + "}";
        i += inner->size() + 2;
      } else if (text[i] != '\\') {
        out += std::string("{") + text[i++] + "}";
      } else {
        break;
      }
    }
  }
  return out;
}

std::string with_braced_roots(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (out.ends_with("\\sqrt") && i + 1 < text.size() && text[i + 1] != '{' && text[i + 1] != '[')
      out += std::string("{") + text[++i] + "}";
  }
  return out;
}

std::optional<double> plain_number(std::string_view text) {
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool thousands = text[i] == ',' && i > 0 && digit(text[i - 1]) && i + 3 < text.size() &&
                           digit(text[i + 1]) && digit(text[i + 2]) && digit(text[i + 3]) &&
                           (i + 4 == text.size() || !digit(text[i + 4]));
    if (!thousands) digits += text[i];
  }
  std::string_view body = digits;
  if (body.starts_with('+')) body.remove_prefix(1);
  if (body.empty() || !(digit(body.back()) || body.back() == '.') ||
      body.find_first_not_of("0123456789.-+eE") != std::string_view::npos)
    return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(body.data(), body.data() + body.size(), value);
  if (error != std::errc() || end != body.data() + body.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

// GSM8K's "#### 42". A line in the middle of a text that says something else is a heading of Markdown.
std::optional<std::string> after_hashes(std::string_view text) {
  for (auto at = text.rfind("####"); at != std::string_view::npos;
       at = at == 0 ? std::string_view::npos : text.rfind("####", at - 1)) {
    const bool other_level = (at > 0 && text[at - 1] == '#') || (at + 4 < text.size() && text[at + 4] == '#');
    const auto rest = text.substr(at + 4);
    const auto end = std::min(rest.find('\n'), rest.size());
    auto answer = bare(rest.substr(0, end));
    if (other_level || answer.empty()) continue;
    const bool last_line = trimmed(rest.substr(end)).empty();
    if (!last_line && !number_of(answer)) continue;
    const auto label = last_line ? after_answer_is(answer) : std::string::npos;  // "#### Final answer: 42"
    return answer_in(label == std::string::npos ? answer : std::string_view(answer).substr(label));
  }
  return std::nullopt;
}

// Whether words stand among the signs of a formula, as in "3$ to 5$". Commands, what stands in \text{} and
// names beside other signs ("2xy") are no words.
bool has_words(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\\') {
      const auto begin = ++i;
      while (i < text.size() && letter(text[i])) ++i;
      const auto name = text.substr(begin, i - begin);
      if (i == begin) ++i;  // "\$"
      else if ((name.starts_with("text") || name == "mathrm" || name == "mbox") && i < text.size() &&
               text[i] == '{')
        if (const auto inner = braced(text, i)) i += inner->size() + 2;
      continue;
    }
    if (static_cast<unsigned char>(text[i]) >= 0xE3) return true;  // scripts that write no spaces
    const auto begin = i;
    while (i < text.size() && letter(text[i])) ++i;
    const auto length = i - begin;
    if (length == 0) {
      ++i;
      continue;
    }
    const bool alone = (begin == 0 || text[begin - 1] == ' ') && (i == text.size() || text[i] == ' ') &&
                       length < text.size();
    if (length >= 4 || (length >= 2 && alone)) return true;
  }
  return false;
}

// "3 + 4 = 7" -> "7"; lists of equations ("x = 1, y = 2") stay whole.
std::string_view after_equals(std::string_view formula) {
  for (size_t i = 0; i < formula.size(); ++i) {
    const bool thousands = i > 0 && i + 1 < formula.size() && digit(formula[i - 1]) && digit(formula[i + 1]);
    if (formula[i] == ';' || (formula[i] == ',' && !thousands)) return formula;
  }
  const auto at = formula.rfind('=');
  if (at == std::string_view::npos || at == 0 || formula.find("\\text") != std::string_view::npos ||
      std::string_view("<>!:&").find(formula[at - 1]) != std::string_view::npos)
    return formula;
  const auto behind = trimmed(formula.substr(at + 1));
  return behind.empty() || behind.find('}') < behind.find('{') ? formula : behind;  // "\frac{a=b}{c}"
}

// The formula that a text ends with ("so $x > 5$.") or consists of ("\frac{10}{9}", "10, 4, -2"), of which
// the last number is not the answer.
std::optional<std::string> last_formula(std::string_view text) {
  constexpr std::pair<std::string_view, std::string_view> kMarks[] = {
      {"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"}, {"\\[", "\\]"}};
  if (text.find("\\boxed") != std::string_view::npos) return std::nullopt;  // one that is not closed
  text = trimmed(text);
  while (text.ends_with('.')) text = trimmed(text.substr(0, text.size() - 1));
  for (const auto& [open, close] : kMarks) {
    if (!text.ends_with(close)) continue;
    const auto before = text.substr(0, text.size() - close.size());
    const auto begin = before.rfind(open);
    if (begin == std::string_view::npos || (begin > 0 && before[begin - 1] == '\\')) continue;
    const auto inner = trimmed(before.substr(begin + open.size()));
    if (!inner.empty() && !has_words(inner)) return std::string(after_equals(inner));
  }
  const auto formula = bare(text);
  const bool command = formula.find('\\') != std::string::npos && !has_words(formula) &&
                       formula.find_first_of("$\n#") == std::string::npos;
  const bool signs = std::any_of(formula.begin(), formula.end(), digit) &&
                     formula.find_first_not_of("0123456789 +-*/^=<>()[],.:%") == std::string::npos &&
                     formula.find_first_of("+*/^=<>,[: ") != std::string::npos;
  if (!command && !signs) return std::nullopt;
  return std::string(after_equals(formula));
}

}  // namespace

std::optional<std::string> final_answer(std::string_view raw) {
  const auto text = plainly_spelled(raw);
  if (auto boxed = last_boxed(text)) return boxed;
  if (auto marked = after_hashes(text)) return marked;
  if (const auto at = after_answer_is(text); at != std::string::npos)
    if (auto answer = answer_in(first_sentence(std::string_view(text).substr(at))); !answer.empty())
      return answer;
  if (auto formula = last_formula(text)) return formula;
  if (auto number = last_number(text)) return number;
  return last_option(text);
}

std::string normalised_formula(std::string_view formula) {
  auto text = bare(plainly_spelled(formula));
  while (text.size() >= 2 && text.front() == '$' && text.back() == '$')
    text = text.substr(1, text.size() - 2);
  for (const std::string_view gone : {"\n", "\\!", "\\left", "\\right", "^{\\circ}", "^\\circ", "\\$", "$",
                                      "\\%", "%", "\\,", "\\;", "\\ ", "~"})
    replace_all(text, gone, "");
  replace_all(text, "\\\\", "\\");
  replace_all(text, "tfrac", "frac");
  replace_all(text, "dfrac", "frac");
  if (const auto unit = text.find("\\text{ "); unit != std::string::npos) text.resize(unit);  // "5\text{ cm}"
  for (const std::string_view upright : {"\\text{", "\\mathrm{", "\\textbf{"})                // "5\text{cm}"
    if (const auto unit = text.find(upright); unit != std::string::npos && unit > 0) {
      const auto value = trimmed(std::string_view(text).substr(0, unit));
      const bool last = text.find('}', unit) + 1 == text.size();  // "5 \text{cm}", not "5 \text{or} 6"
      if (!value.empty() && digit(value.back()) && (value.size() == unit || last)) text.resize(unit);
    }
  if (text.starts_with("\\text{") && text.ends_with("}")) text = text.substr(6, text.size() - 7);
  if (text.size() == 3 && text[0] == '(' && letter(text[1]) && text[2] == ')')
    text = text.substr(1, 1);  // "(B)"
  replace_all(text, " .", " 0.");
  replace_all(text, "{.", "{0.");
  if (text.starts_with('.')) text = "0" + text;
  if (const auto equals = text.find('=');
      equals != std::string::npos && equals <= 2 && text.find('=', equals + 1) == std::string::npos)
    text = text.substr(equals + 1);  // "k = 5"
  replace_all(text, " ", "");
  while (text.ends_with('.') || text.ends_with(',')) text.pop_back();
  text = with_braced_fractions(with_braced_roots(text));
  if (text == "0.5") return "\\frac{1}{2}";
  const auto slash = text.find('/');
  if (slash != std::string::npos && slash > 0) {
    const auto above = text.substr(text[0] == '-' ? 1 : 0, slash - (text[0] == '-' ? 1 : 0)),
               below = text.substr(slash + 1);
    const auto whole = [](const std::string& part) {
      return !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    };
    if (whole(above) && whole(below))
      text = (text[0] == '-' ? "-" : "") + std::string("\\frac{") + above + "}{" + below + "}";
  }
  return text;
}

std::optional<double> number_of(std::string_view raw) {
  const auto spelled = bare(plainly_spelled(raw));
  const auto leading = number_before_words(spelled);
  auto text = normalised_formula(leading > 0 ? std::string_view(spelled).substr(0, leading) : spelled);
  for (const std::string_view currency : {"€", "£", "¥"}) replace_all(text, currency, "");
  double sign = 1;
  if (text.starts_with('-')) {
    sign = -1;
    text.erase(0, 1);
  }
  if (text.starts_with("\\frac{")) {
    const auto above = braced(text, 5);
    if (!above) return std::nullopt;
    const auto open = 5 + above->size() + 2;
    if (open >= text.size() || text[open] != '{') return std::nullopt;
    const auto below = braced(text, open);
    if (!below || open + below->size() + 2 != text.size()) return std::nullopt;
    const auto a = plain_number(*above), b = plain_number(*below);
    if (!a || !b || *b == 0) return std::nullopt;
    return sign * *a / *b;
  }
  const auto value = plain_number(text);
  if (!value) return std::nullopt;
  return sign * *value;
}

bool equal_answers(std::string_view expected, std::string_view got) {
  if (normalised_formula(expected) == normalised_formula(got)) return true;
  const auto a = number_of(expected), b = number_of(got);
  return a && b && std::abs(*a - *b) <= 1e-9 * std::max({1e-300, std::abs(*a), std::abs(*b)});
}

}  // namespace retort
