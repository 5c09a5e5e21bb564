#include "data/record_source.h"

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/ordered_work.h"
#include "base/stop.h"
#include "data/rows.h"

namespace retort {
namespace {

// Rows go to the threads in batches: enough that handing over costs nothing, few enough that all batches
// under way are small.
constexpr size_t kBatchRows = 128, kBatchBytes = size_t{1} << 18;
constexpr size_t kBatchesAThread = 4;

using Laters = std::vector<RecordSource::Later>;

// What the rows of a batch leave to do, up to the first that failed.
template <class Item, class Do> OrderedWork::Later done_in_order(std::vector<Item>& items, Do work_on) {
  auto laters = std::make_shared<Laters>();
  std::exception_ptr failure;
  for (auto& item : items) {
    try {
      laters->push_back(work_on(item));
    } catch (...) {
      failure = std::current_exception();
      break;
    }
  }
  return [laters, failure] {
    for (auto& later : *laters) {
      if (later) later();
      later = nullptr;
    }
    if (failure) std::rethrow_exception(failure);
  };
}

size_t pending_batches(int64_t threads) { return static_cast<size_t>(threads) * kBatchesAThread; }

// Collects the rows of one source into batches and hands these to the threads.
class RowBatches {
 public:
  RowBatches(const RecordMaker& maker, int32_t source, const RecordSource::Work& on_record,
             const RecordSource::Bad& bad, const RecordSource::Prepare& prepare, int64_t threads)
      : maker_(maker),
        source_(source),
        on_record_(on_record),
        bad_(bad),
        prepare_(prepare),
        work_(threads, pending_batches(threads)) {}

  void add(int64_t number, Row row) {
    bytes_ += row.bytes();
    rows_.emplace_back(number, std::move(row));
    if (rows_.size() >= kBatchRows || bytes_ >= kBatchBytes) hand_over();
  }

  void finish() {
    if (!rows_.empty()) hand_over();
    work_.finish();
  }

 private:
  using Numbered = std::pair<int64_t, Row>;

  void hand_over() {
    const auto rows = std::make_shared<std::vector<Numbered>>(std::move(rows_));
    rows_.clear();
    bytes_ = 0;
    leave_if_stopped("reading samples");
    work_.add([this, rows]() -> OrderedWork::Later {
      const auto file = rows->back().second.file;
      const auto first = rows->front().second.raw, last = rows->back().second.raw;
      std::vector<Made> made;
      std::vector<const Record*> records;
      made.reserve(rows->size());
      for (auto& [number, row] : *rows) made.push_back(made_of(number, std::move(row)));
      for (const auto& one : made)
        if (!one.failure && !one.told) records.push_back(&one.record);
      if (prepare_ && !records.empty()) prepare_(records);
      auto later = done_in_order(made, [&](Made& one) {
        if (one.failure) std::rethrow_exception(one.failure);
        return one.told ? std::move(one.told) : on_record_(one.number, std::move(one.record));
      });
      rows->clear();
      return [later, file, first, last] {
        leave_if_stopped("reading samples");
        later();
        if (file) release_until(*file, first.data(), last.data() + last.size());
      };
    });
  }

  // A record, or why there is none.
  struct Made {
    int64_t number = 0;
    Record record = {};
    RecordSource::Later told = nullptr;
    std::exception_ptr failure = nullptr;
  };

  Made made_of(int64_t number, Row row) const {
    Made made{number};
    try {
      made.record = maker_.make(std::move(row));
    } catch (const EmptyRecord& error) { made.told = told(error.what(), true); } catch (const Error& error) {
      if (maker_.skips_bad_records() && error.code == Exit::bad_input) made.told = told(error.what(), false);
      else made.failure = std::current_exception();
    } catch (...) { made.failure = std::current_exception(); }
    return made;
  }

  RecordSource::Later told(std::string problem, bool empty) const {
    if (!bad_) return [] {};
    return [this, problem = std::move(problem), empty] { bad_(source_, problem, empty); };
  }

  // The kernel maps some pages around one that is touched, so a little of what was given back before is there
  // again.
  static void release_until(const MappedFile& file, const char* begin, const char* end) {
    constexpr ptrdiff_t kAround = 128 << 10;
    begin -= std::min(kAround, begin - file.text().data());
    file.release(std::as_bytes(std::span(begin, end)));
  }

  const RecordMaker& maker_;
  int32_t source_;
  const RecordSource::Work& on_record_;
  const RecordSource::Bad& bad_;
  const RecordSource::Prepare& prepare_;
  std::vector<Numbered> rows_;
  size_t bytes_ = 0;
  OrderedWork work_;  // last: its threads use the others
};

}  // namespace

SourceFiles::SourceFiles(const std::vector<SourceSpec>& sources, int64_t threads)
    : sources_(sources), threads_(usable_threads(threads)) {
  if (sources.empty()) throw RecipeError("data.sources: expected at least one source");
}

void SourceFiles::pass(const Choose& choose, const Work& on_record, const Bad& bad,
                       const Prepare& prepare) const {
  int64_t number = 0;
  for (size_t s = 0; s < sources_.size(); ++s) {
    const auto source = static_cast<int32_t>(s);
    RecordMaker maker(sources_[s], source);
    RowBatches batches(maker, source, on_record, bad, prepare, threads_);
    bool settled = false, reading = true;
    const auto tell = [&](const std::string& problem) {
      if (bad) bad(source, problem, false);
    };
    // False for a row that cannot even say what kind of record it is.
    const auto settle = [&](const Row& row) {
      try {
        maker.settle(row);
      } catch (const Error& error) {
        if (!maker.skips_bad_records() || error.code != Exit::bad_input) throw;
        tell(error.what());
        return false;
      }
      return settled = true;
    };
    try {
      read_rows(
          sources_[s],
          [&](Row row) {
            reading = false;  // what is thrown here is a record's, in its turn
            const auto here = number++;
            if ((settled || settle(row)) && (!choose || choose(here))) batches.add(here, std::move(row));
            reading = true;
          },
          [&] {
            reading = false;
            batches.finish();
            reading = true;
          },
          maker.skips_bad_records() ? TakeBad(tell) : nullptr);
      reading = false;
      batches.finish();
    } catch (const FormatError&) {
      if (reading) batches.finish();  // a record before this place may be bad too
      throw;
    }
  }
}

RecordList::RecordList(const std::vector<Record>& records, int64_t threads)
    : records_(records), threads_(usable_threads(threads)) {}

void RecordList::pass(const Choose& choose, const Work& on_record, const Bad&, const Prepare& prepare) const {
  OrderedWork work(threads_, pending_batches(threads_));
  std::vector<int64_t> rows;
  const auto hand_over = [&] {
    leave_if_stopped("reading samples");
    work.add([this, &on_record, &prepare, some = std::exchange(rows, {})]() mutable {
      std::vector<const Record*> batch;
      for (const auto row : some) batch.push_back(&records_[static_cast<size_t>(row)]);
      if (prepare) prepare(batch);
      return done_in_order(some,
                           [&](int64_t row) { return on_record(row, records_[static_cast<size_t>(row)]); });
    });
  };
  for (size_t row = 0; row < records_.size(); ++row) {
    if (!choose || choose(static_cast<int64_t>(row))) rows.push_back(static_cast<int64_t>(row));
    if (rows.size() >= kBatchRows) hand_over();
  }
  if (!rows.empty()) hand_over();
  work.finish();
}

std::vector<Record> records_of_rows(const RecordSource& source, const std::vector<int64_t>& rows,
                                    const std::string& named_by) {
  auto wanted = rows;
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  std::vector<Record> found;
  source.pass([&](int64_t row) { return std::binary_search(wanted.begin(), wanted.end(), row); },
              [&](int64_t, Record record) -> RecordSource::Later {
                const auto moved = std::make_shared<Record>(std::move(record));
                return [moved, &found] { found.push_back(std::move(*moved)); };
              });
  if (found.size() != wanted.size())
    corrupt(named_by, "held_out", "names a record that the sources do not have");
  std::vector<Record> all;
  for (const auto row : rows)
    all.push_back(
        found[static_cast<size_t>(std::lower_bound(wanted.begin(), wanted.end(), row) - wanted.begin())]);
  return all;
}

}  // namespace retort
