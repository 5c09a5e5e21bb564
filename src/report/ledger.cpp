#include "report/ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/json_fields.h"
#include "base/profile.h"
#include "base/system_failure.h"
#include "base/tell.h"

namespace retort {

namespace {

std::string no_hash() { return std::string(64, '0'); }

std::string now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
  const std::time_t seconds = milliseconds / 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, milliseconds % 1000);
}

std::string line_of(const LedgerEntry& entry) {
  const OrderedJson line = {{"n", entry.number},
                            {"before", entry.before},
                            {"time", entry.time},
                            {"event", entry.event},
                            {"facts", entry.facts}};
  return line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

// nullopt for what is no entry.
std::optional<LedgerEntry> entry_of(std::string_view line) {
  try {
    parse_json(line, "");  // its checks: depth, keys that stand twice
    const auto json = OrderedJson::parse(line);
    if (!json.is_object() || json.size() != 5 || !json.contains("facts")) return std::nullopt;
    LedgerEntry entry;
    entry.number = json.at("n").get<int64_t>();
    entry.before = json.at("before").get<std::string>();
    entry.time = json.at("time").get<std::string>();
    entry.event = json.at("event").get<std::string>();
    entry.facts = json.at("facts");
    entry.sha256 = sha256(line);
    return entry;
  } catch (const Error&) { return std::nullopt; } catch (const OrderedJson::exception&) {
    return std::nullopt;
  }
}

struct Lines {
  std::vector<std::string_view> whole;
  std::string_view torn;  // behind the last line's end
};

Lines lines_of(std::string_view text) {
  Lines lines;
  for (size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    if (end == text.npos) {
      lines.torn = text.substr(at);
      break;
    }
    lines.whole.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// Walks the chain and names what does not fit.
class Walk {
 public:
  void take(std::string_view line) {
    ++line_;
    const auto entry = entry_of(line);
    if (!entry) {
      fault(fmt::format("entry {}", next_), "changed: this line is no entry of a ledger");
      before_.clear();  // what stands behind it says nothing more
      ++next_;
      return;
    }
    if (entry->number < next_)
      return fault(fmt::format("line {}", line_),
                   fmt::format("added: an entry {} stands before it", entry->number));
    if (entry->number > next_) missing(next_, entry->number - 1);
    else if (!before_.empty() && entry->before != before_) {
      if (next_ == 1) fault("entry 1", "changed: it names an entry before it");
      else
        fault(fmt::format("entry {}", next_ - 1),
              fmt::format("changed: its sha256 is {}, and entry {} was written behind {}", before_, next_,
                          printable(entry->before)));
    }
    before_ = entry->sha256;
    next_ = entry->number + 1;
  }

  void end(std::string_view torn, const std::optional<LedgerHead>& recorded) {
    if (!torn.empty())
      fault(fmt::format("entry {}", next_),
            fmt::format("torn: {} behind the last whole line; the same command that was running mends it",
                        bytes(torn.size())));
    if (!recorded) return;
    const auto count = next_ - 1;
    if (count < recorded->entries) missing(next_, recorded->entries);
    else if (count > recorded->entries)
      fault(fmt::format("entry {}", recorded->entries + 1), "added: the manifest was written before it");
    else if (before_ != recorded->sha256 && faults.empty())
      fault(fmt::format("entry {}", count),
            fmt::format("changed: its sha256 is {}, the manifest has {}", before_, recorded->sha256));
  }

  std::vector<LedgerFault> faults;

 private:
  void fault(std::string entry, std::string what) { faults.push_back({std::move(entry), std::move(what)}); }
  void missing(int64_t first, int64_t last) {
    fault(first == last ? fmt::format("entry {}", first) : fmt::format("entries {} to {}", first, last),
          "missing");
  }
  std::string before_ = no_hash();
  int64_t next_ = 1, line_ = 0;
};

}  // namespace

Ledger::Ledger(const std::filesystem::path& folder) : file_(folder / kLedgerFile) {
  head_.sha256 = no_hash();
  if (!std::filesystem::exists(file_)) return;
  const auto text = read_text(file_);
  auto lines = lines_of(text);
  // A power failure may leave a last line of zeros or of half an entry, its end included.
  if (!lines.whole.empty() && !entry_of(lines.whole.back())) lines.whole.pop_back();
  Walk walk;
  for (const auto line : lines.whole) {
    walk.take(line);
    size_ += line.size() + 1;
  }
  if (!walk.faults.empty())
    corrupt(file_.string(), walk.faults[0].entry,
            walk.faults[0].what +
                "; nothing is added to a record that somebody changed: name a new folder "
                "(run.folder), or put the file back as it was");
  torn_ = text.size() - size_;
  head_.entries = static_cast<int64_t>(lines.whole.size());
  if (!lines.whole.empty()) head_.sha256 = sha256(lines.whole.back());
}

Ledger::~Ledger() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Ledger::queue(const std::string& event, OrderedJson facts) {
  waiting_.push_back({now(), event, std::move(facts)});
}

void Ledger::add(const std::string& event, OrderedJson facts) {
  if (begin_) {
    if (torn_ > 0)
      queue("mended", {{"bytes", torn_}, {"why", "the last line was torn: its process was killed"}});
    queue(head_.entries == 0 ? "started" : "resumed", *std::exchange(begin_, std::nullopt));
  }
  queue(event, std::move(facts));
  if (!held_) try_to_write();
}

void Ledger::let_go() {
  held_ = false;
  try_to_write();
}

void Ledger::settle() { write_all(); }

void Ledger::try_to_write() {
  try {
    write_all();
    told_ = false;
  } catch (const Failure& failure) {
    if (!told_) tell(fmt::format("the ledger waits in memory: {}", failure.what()));
    told_ = true;
  }
}

void Ledger::write_all() {
  if (waiting_.empty()) return;
  const Span span({"ledger", "stage"});
  if (descriptor_ < 0) {
    const bool fresh = !std::filesystem::exists(file_);
    descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (descriptor_ < 0) throw_writing(file_.string() + ": cannot be written", errno);
    if (fresh) sync_folder(file_.parent_path());
  }
  if (torn_ > 0 && ::ftruncate(descriptor_, static_cast<off_t>(size_)) != 0)
    throw_writing(file_.string() + ": a torn line cannot be cut off", errno);
  torn_ = 0;
  auto head = head_;
  std::string text;
  for (const auto& [time, event, facts] : waiting_) {
    const auto line = line_of({++head.entries, head.sha256, time, event, facts, ""});
    head.sha256 = sha256(line);
    text += line + "\n";
  }
  // At a place of its own: what an earlier try left of these lines is written over.
  for (size_t done = 0; done < text.size();) {
    const auto wrote =
        ::pwrite(descriptor_, text.data() + done, text.size() - done, static_cast<off_t>(size_ + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const int reason = errno;
      torn_ = done;  // no half line stays where the next try does not come
      if (::ftruncate(descriptor_, static_cast<off_t>(size_)) == 0) torn_ = 0;
      throw_writing(file_.string() + ": write failed", reason);
    }
    done += static_cast<size_t>(wrote);
  }
  if (::fdatasync(descriptor_) != 0) throw_writing(file_.string() + ": fsync failed", errno);
  size_ += text.size();
  head_ = std::move(head);
  waiting_.clear();
}

std::vector<LedgerEntry> read_ledger(const std::filesystem::path& folder) {
  const auto file = folder / kLedgerFile;
  if (!std::filesystem::exists(file)) return {};
  const auto text = read_text(file);
  std::vector<LedgerEntry> entries;
  for (const auto line : lines_of(text).whole) {
    auto entry = entry_of(line);
    if (!entry) corrupt(file.string(), fmt::format("line {}", entries.size() + 1), "is no entry of a ledger");
    entries.push_back(std::move(*entry));
  }
  return entries;
}

std::vector<LedgerFault> verify_ledger(const std::filesystem::path& folder,
                                       const std::optional<LedgerHead>& recorded) {
  const auto file = folder / kLedgerFile;
  if (!std::filesystem::exists(file)) {
    if (recorded) return {{"all entries", "missing"}};
    return {};
  }
  const auto text = read_text(file);
  const auto lines = lines_of(text);
  Walk walk;
  for (const auto line : lines.whole) walk.take(line);
  walk.end(lines.torn, recorded);
  return walk.faults;
}

}  // namespace retort
