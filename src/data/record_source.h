// Records that are gone through one after another as often as somebody likes, none of them kept: of files, or
// of a list.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/record.h"

namespace retort {

class RecordSource {
 public:
  using Choose = std::function<bool(int64_t row)>;  // rows are numbered over all sources
  using Later = std::function<void()>;
  using Work = std::function<Later(int64_t row, Record record)>;
  // A record that cannot be read, of a source that skips such ones: "file:line: what is wrong". `empty`: it
  // was read, but has no text where one is needed.
  using Bad = std::function<void(int32_t source, const std::string& problem, bool empty)>;
  // Sees the records of a batch together, on the thread that will call `work` for each of them.
  using Prepare = std::function<void(std::span<const Record* const> batch)>;
  virtual ~RecordSource() = default;
  // Calls `work` for each row that `choose` (empty: all) wants, on several threads at a time, and what it
  // returns on the caller's thread in the order of the rows. `choose` is called on the caller's thread.
  // FormatError and RecipeError name the first bad record; what its source skips goes to `bad`, on the
  // caller's thread and, but for rows that a reader refuses, in order.
  virtual void pass(const Choose& choose, const Work& work, const Bad& bad = nullptr,
                    const Prepare& prepare = nullptr) const = 0;
};

// The files of data.sources. However large they are, only some hundred records are in memory at a time.
class SourceFiles : public RecordSource {
 public:
  // threads: 0 = all that this process may use. RecipeError for keys of a source that do not go together.
  explicit SourceFiles(const std::vector<SourceSpec>& sources, int64_t threads = 0);
  void pass(const Choose& choose, const Work& work, const Bad& bad = nullptr,
            const Prepare& prepare = nullptr) const override;

 private:
  const std::vector<SourceSpec>& sources_;
  int64_t threads_;
};

class RecordList : public RecordSource {
 public:
  explicit RecordList(const std::vector<Record>& records, int64_t threads = 0);
  void pass(const Choose& choose, const Work& work, const Bad& bad = nullptr,
            const Prepare& prepare = nullptr) const override;

 private:
  const std::vector<Record>& records_;
  int64_t threads_;
};

// The records of these rows, in the order of the rows; FormatError for a row that is not there.
std::vector<Record> records_of_rows(const RecordSource& source, const std::vector<int64_t>& rows,
                                    const std::string& named_by);

}  // namespace retort
