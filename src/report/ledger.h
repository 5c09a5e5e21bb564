// ledger.jsonl: what happened to a run, one event a line, only ever appended and on the disk before the work
// goes on. Each entry holds the SHA-256 of the line before it, so that a line that is changed, taken out or
// put in shows in the lines behind it. Whoever notes the hash of the last line elsewhere can show later that
// nothing before it was written anew.
//
//   {"n":2,"before":"<64 digits>","time":"2026-11-30T04:20:11.123Z","event":"checkpoint","facts":{...}}
//
// "n" is the number of the line, from 1; the hash is of the line without its end; the first line's "before"
// is 64 zeros. No text of a sample is ever in a fact.
#pragma once
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace retort {

inline constexpr const char* kLedgerFile = "ledger.jsonl";

struct LedgerHead {
  int64_t entries = 0;
  std::string sha256;  // of the last line

  template <class Visitor> void fields(Visitor& field) { field("entries", entries), field("sha256", sha256); }
};

struct LedgerEntry {
  int64_t number = 0;
  std::string before, time, event;
  OrderedJson facts;
  std::string sha256;  // of its line
};

// For the holder of the run's lock. A file that cannot be written for now (a full disk) loses nothing: events
// wait in memory, in their order, and are tried again with the next one.
class Ledger {
 public:
  // Nothing is written before the first event. A last line that a killed process left torn is cut off then,
  // and an event says so. FormatError where the entries before it are not what was written.
  explicit Ledger(const std::filesystem::path& folder);
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // Who goes on with the run now: written ahead of this process's first event, as "started" in a new ledger
  // and "resumed" in one that has entries.
  void begin(OrderedJson facts) { begin_ = std::move(facts); }
  void add(const std::string& event, OrderedJson facts);
  // From hold() to let_go() nothing is written: what is added in between waits.
  void hold() { held_ = true; }
  void let_go();
  // Failure when an event still waits and the disk does not take it now.
  void settle();

  const LedgerHead& head() const { return head_; }  // of what is on the disk
  // Bytes of the torn line that the first event will cut off; 0: there is none.
  uint64_t torn_bytes() const { return torn_; }

 private:
  struct Event {
    std::string time, event;
    OrderedJson facts;
  };
  void queue(const std::string& event, OrderedJson facts);
  void write_all();  // Failure when the disk takes no more
  void try_to_write();

  std::filesystem::path file_;
  int descriptor_ = -1;
  uint64_t size_ = 0, torn_ = 0;
  LedgerHead head_;
  std::optional<OrderedJson> begin_;
  std::deque<Event> waiting_;
  bool held_ = false, told_ = false;
};

// Every entry of FOLDER/ledger.jsonl; none where there is no such file. FormatError for a line that is none.
std::vector<LedgerEntry> read_ledger(const std::filesystem::path& folder);

// What is wrong with FOLDER/ledger.jsonl: "entry 7" and "changed: ...", "missing", "added: ...", "torn: ...".
// `recorded`: what somebody knows of its end. Empty: it is whole.
struct LedgerFault {
  std::string entry, what;
};
std::vector<LedgerFault> verify_ledger(const std::filesystem::path& folder,
                                       const std::optional<LedgerHead>& recorded);

}  // namespace retort
