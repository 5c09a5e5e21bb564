#include "report/ledger.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "report/manifest.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

class LedgerTest : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder); }
  void TearDown() override { fs::remove_all(folder); }
  void fill(int64_t events) const {
    Ledger ledger(folder);
    ledger.begin({{"user", "anna"}});
    for (int64_t i = 0; i < events; ++i) ledger.add("checkpoint", {{"step", i}});
  }
  std::string text() const { return read_text(folder / kLedgerFile); }
  void write(const std::string& all) const {
    std::ofstream(folder / kLedgerFile, std::ios::binary | std::ios::trunc) << all;
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> all;
    const auto whole = text();
    for (size_t at = 0; at < whole.size(); at = whole.find('\n', at) + 1)
      all.push_back(whole.substr(at, whole.find('\n', at) - at));
    return all;
  }
  void write_lines(const std::vector<std::string>& all) const {
    std::string whole;
    for (const auto& line : all) whole += line + "\n";
    write(whole);
  }
  std::vector<std::string> faults(const std::optional<LedgerHead>& recorded = std::nullopt) const {
    std::vector<std::string> found;
    for (const auto& [entry, what] : verify_ledger(folder, recorded))
      found.push_back(entry + " " + what.substr(0, what.find(':')));
    return found;
  }
  using Faults = std::vector<std::string>;
  fs::path folder = fs::temp_directory_path() / fmt::format("retort_ledger_{}", getpid());
};

TEST_F(LedgerTest, EachEntryHoldsTheHashOfTheLineBefore) {
  fill(2);
  const auto all = lines();
  ASSERT_EQ(all.size(), 3u);
  const auto first = parse_json(all[0], "");
  EXPECT_EQ(first["event"], "started");
  EXPECT_EQ(first["facts"]["user"], "anna");
  EXPECT_EQ(first["before"], std::string(64, '0'));
  EXPECT_EQ(parse_json(all[1], "")["before"], sha256(all[0]));
  EXPECT_EQ(parse_json(all[2], "")["before"], sha256(all[1]));
  EXPECT_EQ(parse_json(all[2], "")["n"], 3);
  EXPECT_EQ(faults(), Faults{});

  // Another process goes on behind it.
  fill(1);
  EXPECT_EQ(lines().size(), 5u);
  EXPECT_EQ(read_ledger(folder)[3].event, "resumed");
  EXPECT_EQ(faults(LedgerHead{5, sha256(lines().back())}), Faults{});
}

TEST_F(LedgerTest, AProcessWithoutAnEventWritesNothing) {
  fill(0);
  EXPECT_FALSE(fs::exists(folder / kLedgerFile));
}

TEST_F(LedgerTest, NamesEntriesThatWereChangedTakenOutOrPutIn) {
  fill(5);
  const auto all = lines();
  const LedgerHead head{6, sha256(all.back())};
  EXPECT_EQ(faults(head), Faults{});

  auto changed = all;
  changed[2].replace(changed[2].find("\"step\":1"), 8, "\"step\":7");
  write_lines(changed);
  EXPECT_EQ(faults(head), Faults{"entry 3 changed"});
  changed = all;
  changed[5].replace(changed[5].find("\"step\":4"), 8, "\"step\":7");
  write_lines(changed);
  EXPECT_EQ(faults(head), Faults{"entry 6 changed"});
  changed = all;
  changed[3] = "{}";
  write_lines(changed);
  EXPECT_EQ(faults(head), Faults{"entry 4 changed"});

  auto without = all;
  without.erase(without.begin() + 2, without.begin() + 4);
  write_lines(without);
  EXPECT_EQ(faults(head), Faults{"entries 3 to 4 missing"});
  without = all;
  without.pop_back();
  write_lines(without);
  EXPECT_EQ(faults(head), Faults{"entry 6 missing"});
  fs::remove(folder / kLedgerFile);
  EXPECT_EQ(faults(head), Faults{"all entries missing"});

  auto added = all;
  added.insert(added.begin() + 3, all[1]);
  write_lines(added);
  EXPECT_EQ(faults(head), Faults{"line 4 added"});
  write_lines(all);
  fill(1);
  EXPECT_EQ(faults(head), Faults{"entry 7 added"});

  // Numbered and chained anew from a change on: the end is another one.
  fs::remove(folder / kLedgerFile);
  fill(5);
  EXPECT_EQ(faults(head), Faults{"entry 6 changed"});
}

TEST_F(LedgerTest, ATornLastLineIsMendedAndSaid) {
  fill(2);
  const auto whole = text();
  for (const auto& torn :
       {std::string("{\"n\":4,\"bef"), std::string(70, '\0'), std::string("{\"n\":4}\n")}) {
    write(whole + torn);
    {
      Ledger ledger(folder);
      EXPECT_EQ(ledger.torn_bytes(), torn.size());
      EXPECT_EQ(text(), whole + torn);  // nothing is changed before there is something to write
      ledger.begin({});
      ledger.add("stage", {{"stage", "samples"}});
    }
    const auto entries = read_ledger(folder);
    ASSERT_EQ(entries.size(), 6u);
    EXPECT_EQ(entries[3].event, "mended");
    EXPECT_EQ(entries[3].facts["bytes"], torn.size());
    EXPECT_EQ(entries[4].event, "resumed");
    EXPECT_EQ(faults(), Faults{});
  }
}

TEST_F(LedgerTest, NothingIsAddedToOneThatWasChanged) {
  fill(3);
  auto all = lines();
  all[1].replace(all[1].find("\"step\":0"), 8, "\"step\":9");
  write_lines(all);
  try {
    Ledger ledger(folder);
    ADD_FAILURE() << "it was opened";
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("entry 2: changed"), std::string::npos) << error.what();
  }
}

TEST_F(LedgerTest, WhatIsHeldWaits) {
  Ledger ledger(folder);
  ledger.hold();
  ledger.add("stage", {{"stage", "compute"}});
  EXPECT_FALSE(fs::exists(folder / kLedgerFile));
  ledger.let_go();
  EXPECT_EQ(lines().size(), 1u);
}

// A disk that takes no more: here a file that may not grow.
TEST_F(LedgerTest, EventsWaitForAFullDisk) {
  std::signal(SIGXFSZ, SIG_IGN);
  fill(2);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  Ledger ledger(folder);
  const rlimit full{fs::file_size(folder / kLedgerFile) + 20, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  ledger.add("checkpoint", {{"step", 8}});
  ledger.add("checkpoint", {{"step", 9}});
  EXPECT_THROW(ledger.settle(), Failure);
  EXPECT_EQ(faults(), Faults{});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ledger.add("checkpoint", {{"step", 10}});
  const auto entries = read_ledger(folder);
  ASSERT_EQ(entries.size(), 6u);
  EXPECT_EQ(entries[3].facts["step"], 8);
  EXPECT_EQ(entries[5].facts["step"], 10);
  EXPECT_EQ(faults(ledger.head()), Faults{});
}

TEST_F(LedgerTest, ManifestAndLedgerSayWhetherTheOtherIsWhatItWas) {
  const auto write_file = [&](const char* name, const std::string& text) {
    std::ofstream(folder / name, std::ios::trunc) << text;
  };
  const auto differences = [&] {
    std::vector<std::string> found;
    for (const auto& [path, what] : verify_manifest(folder))
      found.push_back(path + " " + what.substr(0, what.find(':')));
    return found;
  };
  write_file("a.txt", "one");
  write_file("stages.json", "{}");
  {
    Ledger ledger(folder);
    ledger.begin({});
    EXPECT_FALSE(is_of_this_state(folder, "stages.json"));
    close_manifest(make_manifest(folder, {}, "r"), folder, ledger, {});
    EXPECT_TRUE(is_of_this_state(folder, "stages.json"));
  }
  EXPECT_EQ(differences(), Faults{});

  // A file and its entry in the manifest are changed together: the ledger tells.
  const auto manifest = read_text(folder / "manifest.json");
  write_file("a.txt", "two");
  auto forged = manifest;
  const auto hash = sha256(std::string_view("one"));
  forged.replace(forged.find(hash), 64, sha256(std::string_view("two")));
  write_file("manifest.json", forged);
  EXPECT_EQ(differences(), Faults{"manifest.json modified"});

  write_file("a.txt", "one");
  write_file("manifest.json", manifest);
  {
    Ledger ledger(folder);
    ledger.add("stage", {{"stage", "late"}});
  }
  EXPECT_FALSE(is_of_this_state(folder, "stages.json"));  // killed before it wrote the manifest
  EXPECT_EQ(differences(), (Faults{"ledger.jsonl modified", "ledger.jsonl: entry 3 added"}));

  // A manifest that says nothing of the ledger is none that this run wrote.
  write_manifest(folder, {}, "r");
  EXPECT_EQ(differences(), Faults{"manifest.json modified"});
}

}  // namespace
}  // namespace retort
