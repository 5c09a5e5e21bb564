// What a run does with network, files and samples' texts, looked at from outside while it runs.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "recipe/recipe.h"

namespace retort {

struct Proof {
  struct Fact {
    bool holds = true;
    std::string what, detail;
  };
  std::vector<Fact> facts;
  // Relative to the working folder where they lie in it; of the run's folder what stands directly in it.
  std::vector<std::string> read, written;
  bool holds() const;
};

struct ProofJob {
  LoadedRecipe recipe;                 // its run.folder is where the run goes: a folder that is not there yet
  std::vector<std::string> arguments;  // of the program that is watched: run, the recipe, its settings
};

// Starts this program again under strace, in an empty network namespace where that can be had. What it says
// goes on to this process's own outputs. Failure where strace is absent or may not watch.
Proof prove(const ProofJob& job);

}  // namespace retort
