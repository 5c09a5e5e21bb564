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

// Digits with thousands separators, a fraction or a decimal part and an exponent, from the back.
std::optional<std::string> last_number(std::string_view text) {
  size_t end = text.size();
  while (end > 0 && !digit(text[end - 1])) --end;
  if (end == 0) return std::nullopt;
  size_t begin = end;
  while (begin > 0) {
    const char c = text[begin - 1];
    const bool inner = (c == '.' || c == ',' || c == '/') && begin >= 2 && digit(text[begin - 2]) &&
                       begin < end && digit(text[begin]);
    if (digit(c) || inner) --begin;
    else break;
  }
  if (begin > 0 && text[begin - 1] == '.' && (begin < 2 || !digit(text[begin - 2]))) --begin;  // ".5"
  if (begin > 0 && text[begin - 1] == '-') --begin;
  return std::string(text.substr(begin, end - begin));
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

}  // namespace

std::optional<std::string> final_answer(std::string_view text) {
  if (auto boxed = last_boxed(text)) return boxed;
  if (const auto at = text.rfind("####"); at != std::string_view::npos) {
    const auto rest = text.substr(at + 4);
    return std::string(trimmed(rest.substr(0, rest.find('\n'))));
  }
  if (const auto at = text.rfind("answer is"); at != std::string_view::npos) {
    auto rest = text.substr(at + 9);
    rest = rest.substr(0, rest.find('\n'));
    size_t stop = 0;
    while (stop < rest.size() && !(rest[stop] == '.' && (stop + 1 == rest.size() || rest[stop + 1] == ' ')))
      ++stop;
    auto answer = trimmed(rest.substr(0, stop));
    if (answer.starts_with(':')) answer = trimmed(answer.substr(1));
    if (!answer.empty()) return std::string(answer);
  }
  return last_number(text);
}

std::string normalised_formula(std::string_view formula) {
  std::string text(trimmed(formula));
  while (text.size() >= 2 && text.front() == '$' && text.back() == '$')
    text = text.substr(1, text.size() - 2);
  for (const std::string_view gone :
       {"\n", "\\!", "\\left", "\\right", "^{\\circ}", "^\\circ", "\\$", "$", "\\%", "%", "\\,", "\\;"})
    replace_all(text, gone, "");
  replace_all(text, "\\\\", "\\");
  replace_all(text, "tfrac", "frac");
  replace_all(text, "dfrac", "frac");
  if (const auto unit = text.find("\\text{ "); unit != std::string::npos) text.resize(unit);  // "5\text{ cm}"
  if (text.starts_with("\\text{") && text.ends_with("}")) text = text.substr(6, text.size() - 7);
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
  auto text = normalised_formula(raw);
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
