// What the commonest errors mean where their one line is not enough.
#pragma once
#include <string>
#include <vector>

namespace retort {

// docs/errors.md.
std::string error_pages();
// The pages that a message belongs to, or that hold all of some words; a list of all when there are none.
// RecipeError where no page does.
std::string explain_error(const std::string& words);
// By which each page finds its message.
std::vector<std::string> error_page_words();

}  // namespace retort
