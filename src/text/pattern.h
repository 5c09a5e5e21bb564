// A regular expression from a recipe (PCRE2, UTF-8), searched for in texts from outside with bounded steps.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace retort {

class Pattern {
 public:
  // RecipeError, naming `key`, when it is not understood.
  Pattern(std::string_view pattern, std::string key);
  // Anywhere in the text; ^ and $ are its ends. RecipeError when that takes too many steps; `place` says
  // where the text is from.
  bool found_in(std::string_view text, std::string_view place) const;
  // Each place where it is found, one behind the other, until `take` says false. The same limit.
  void each_in(std::string_view text, std::string_view place,
               const std::function<bool(std::string_view found)>& take) const;

 private:
  std::string key_;
  std::shared_ptr<void> code_;
};

}  // namespace retort
