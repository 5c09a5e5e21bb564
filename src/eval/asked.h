// How questions of a file are put to a model that knows a chat template.
#pragma once
#include <string>
#include <vector>

#include "data/record.h"

namespace retort {

struct Asked {
  std::string system;  // message, "" for none
  std::string prompt;  // the user's text with placeholders, "" for the task's own
  std::string where;   // "eval task 'x'", for errors

  // What stands before the first question.
  std::vector<Message> opening() const;
  // The user's text; RecipeError that names the task for a placeholder that the question has not.
  std::string text(const Columns& columns, std::string own) const;
};

}  // namespace retort
