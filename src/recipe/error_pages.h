// What the commonest errors mean where their one line is not enough.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// docs/errors.md: the pages, numbered E1, E2, ...
std::string error_pages();
// The page of a number, the pages that a message belongs to, or those that hold all of some words; a list of
// all when there are none. RecipeError where no page does.
std::string explain_error(const std::string& words);
// "E12".
bool is_error_number(std::string_view word);
// A message, or a list of problems, with the number of its page behind each line that has one: "... [E12]".
std::string with_error_numbers(std::string_view message);
// By which each page finds its message.
std::vector<std::string> error_page_words();

}  // namespace retort
