#include "run/forget.h"

#include <gtest/gtest.h>

#include <set>

#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data

namespace retort {
namespace {

// retort-ranks that ended with an error left the samples of its other ranks beside the run.
TEST(Forget, WhatRanksLeftBesideTheRunIsMadeOfRecordsToo) {
  const TemporaryFolder folder;
  for (const auto* name : {"run", "run.rank-1", "run.rank-2", "runs", "other.rank-1"})
    std::filesystem::create_directories(folder / name);
  write_text(std::filesystem::path(folder / "run") / "tokens.h5", "");
  write_text(std::filesystem::path(folder / "run") / "ledger.jsonl", "");
  for (const auto& run : {folder / "run", folder / "run" + "/"}) {
    std::set<std::string> names;
    for (const auto& path : made_of_records(run)) names.insert(path.filename().string());
    EXPECT_EQ(names, (std::set<std::string>{"run.rank-1", "run.rank-2", "tokens.h5"})) << run;
  }
}

}  // namespace
}  // namespace retort
