// A recipe of Axolotl, LLaMA-Factory or TRL as one of retort. Nothing of it is dropped without a word.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "recipe/other_tools.h"

namespace retort {

struct TranslateOptions {
  std::string kind;   // word of a Tool; empty: the file's keys say it
  std::string model;  // the base, instead of what the file names; empty: that
  std::string data;   // file or folder of records, instead of the one data set that the file names
};

struct Translation {
  Tool tool = Tool::axolotl;
  std::string recipe;                  // YAML with remarks; the next two stand in it too
  std::vector<std::string> look_here;  // "model.path: ...": what a person has to see to
  std::vector<std::string> left_out;   // "KEY (value): why it has no counterpart"
};

// `file` is its name in errors and remarks, and data sets are looked for beside it. RecipeError where it is
// none of the three, or does something that retort does not.
Translation translate_recipe(std::string_view text, const std::string& file, const TranslateOptions& options);

}  // namespace retort
