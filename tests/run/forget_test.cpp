#include "run/forget.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/locked_folder.h"
#include "data/temporary_folder.h"  // tests/data
#include "report/ledger.h"
#include "report/manifest.h"
#include "run/run_folder.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

fs::path from_here(const fs::path& path) { return path.lexically_proximate(fs::current_path()); }

fs::path make_run(const fs::path& folder) {
  fs::create_directories(folder);
  write_text(folder / "run.lock", "");
  write_text(folder / "tokens.h5", "ids");
  return folder;
}

// retort-ranks that was killed left the samples of its other ranks beside the run. A user's runs have names
// that only look alike, and so have a user's folders inside of the run.
TEST(Forget, WhatRanksLeftBesideTheRunIsMadeOfRecordsTooAndNothingElseIs) {
  const TemporaryFolder folder;
  const fs::path root = folder / "";
  for (const auto* name :
       {"run", ".run.retort-rank-1", ".run.retort-rank-12", "run.rank-1", "run.rank-16", "runs",
        ".run.retort-rank-", ".run.retort-rank-1b", ".run.retort-rank-1.old", ".runs.retort-rank-1"})
    make_run(root / name);
  fs::create_directories(root / ".run.retort-rank-3");  // nobody began a run there
  for (const auto* name : {"round-00", "round-trip", "round-1"}) fs::create_directories(root / "run" / name);
  for (const auto& run : {root / "run", root / "run/", from_here(root / "run")}) {
    std::set<std::string> names;
    for (const auto& path : made_of_records(run)) names.insert(path.filename().string());
    EXPECT_EQ(names,
              (std::set<std::string>{".run.retort-rank-1", ".run.retort-rank-12", "round-00", "tokens.h5"}))
        << run;
    EXPECT_EQ(folder_of_rank(run, 12).string(), (root / ".run.retort-rank-12").string());
  }
}

LoadedRecipe recipe_in(const fs::path& run) {
  LoadedRecipe loaded;
  loaded.file = "r.yaml";
  loaded.recipe.run.folder = run.string();
  loaded.recipe.data.forget = "forgotten.txt";
  return loaded;
}

// Rank 0 was killed before it wrote its list; another rank had written the same.
TEST(Forget, ARanksListServesWhereTheRunHasNone) {
  const TemporaryFolder folder;
  const fs::path root = folder / "";
  const auto run = make_run(root / "run"), rank = make_run(root / ".run.retort-rank-1");
  const std::string hash(32, 'a');
  write_text(rank / "records.tsv", hash + "\t-\ttrain\t1\t0\t1\ta.jsonl:1\n");
  EXPECT_EQ(forget_in_run(recipe_in(run), {hash}, true).learned, 1);
  EXPECT_FALSE(fs::exists(rank) || fs::exists(run / "tokens.h5"));
}

// The recipe names its folder relative to where the command is started.
TEST(Forget, TheLedgerNamesEachFileThatWasRemoved) {
  const TemporaryFolder folder;
  const fs::path root = folder / "";
  const auto run = make_run(root / "run"), other = make_run(root / "run.rank-16");
  const auto rank = make_run(root / ".run.retort-rank-1");
  const std::string hash(32, 'a');
  write_text(run / "records.tsv", hash + "\t-\ttrain\t1\t0\t1\ta.jsonl:1\n");
  ASSERT_TRUE(from_here(run).is_relative());
  const auto forgotten = forget_in_run(recipe_in(from_here(run)), {hash}, true);
  EXPECT_EQ(forgotten.learned, 1);
  EXPECT_FALSE(fs::exists(rank) || fs::exists(run / "tokens.h5"));
  EXPECT_TRUE(fs::exists(other / "tokens.h5"));
  std::set<std::string> named;
  for (const auto& entry : read_ledger(run))
    if (entry.event == "deleted")
      for (const auto& file : entry.facts["files"]) named.insert(file["path"].get<std::string>());
  EXPECT_EQ(named, (std::set<std::string>{"../.run.retort-rank-1/run.lock", "../.run.retort-rank-1/tokens.h5",
                                          "records.tsv", "tokens.h5"}));
  EXPECT_EQ(verify_manifest(run).size(), 0u);
}

// A rank may compute still when rank 0 is gone.
TEST(Forget, NothingIsRemovedWhileARankWorks) {
  const TemporaryFolder folder;
  const fs::path root = folder / "";
  const auto run = make_run(root / "run"), rank = make_run(root / ".run.retort-rank-1");
  const std::string hash(32, 'a');
  write_text(run / "records.tsv", hash + "\t-\ttrain\t1\t0\t1\ta.jsonl:1\n");
  const LockedFolder works(rank);
  EXPECT_THROW(forget_in_run(recipe_in(run), {hash}, true), Failure);
  EXPECT_TRUE(fs::exists(run / "tokens.h5") && fs::exists(rank / "tokens.h5"));
  EXPECT_EQ(forget_in_run(recipe_in(run), {hash}, false).learned, 1);
}

}  // namespace
}  // namespace retort
