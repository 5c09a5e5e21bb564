#include "data/record_list.h"

#include <charconv>

#include "base/error.h"
#include "base/files.h"
#include "data/canaries.h"

namespace retort {

namespace {

// A place is a path: what would end a field or a line is no part of one that anybody looks for.
std::string in_one_field(std::string text) {
  for (auto& c : text)
    if (c == '\t' || c == '\n' || c == '\r') c = '?';
  return text;
}

std::string_view cut_field(std::string_view& line) {
  const auto end = line.find('\t');
  const auto field = line.substr(0, end);
  line = end == line.npos ? std::string_view() : line.substr(end + 1);
  return field;
}

bool number_of(std::string_view text, int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

bool is_made_of(std::string_view id, std::string_view place) {
  return id.starts_with(place) &&
         (id.size() == place.size() || !std::isdigit(static_cast<unsigned char>(id[place.size()])));
}

std::string record_hash(const ContentKey& key) { return fmt::format("{:016x}{:016x}", key.high, key.low); }

std::string record_hash(const Record& record) { return record_hash(record_key(record)); }

std::string group_hash(std::string_view group) {
  Sha256 hash;
  return record_hash(content_key(hash.add("group:").add(group)));
}

bool is_record_hash(std::string_view text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

const char* side_of(const PlannedRow& row) {
  switch (row.side) {
    case Side::train: return "train";
    case Side::held_out: return "held_out";
    case Side::none: return "left_out";
  }
  return "";
}

void write_record_list(const std::filesystem::path& file, const RecordSource& source, const RecordPlan& plan,
                       const Samples& train, const CanarySpec& canaries) {
  AtomicFile out(file);
  out.write(std::string_view("# hash\tgroup\tside\tuses\tfirst\tsamples\tplace\n"));
  size_t next = 0;  // training samples follow the order of the records
  const auto write_line = [&](const std::string& hash, const std::string& group, const PlannedRow& row,
                              const std::string& place) {
    const auto uses = row.side == Side::train ? row.copies : 0;
    const auto first = next;
    if (uses > 0)
      while (next < train.size() && is_made_of(train[next].id, place)) ++next;
    out.write(fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{}\n", hash, group, side_of(row), uses, first,
                          next - first, in_one_field(place)));
  };
  source.pass(nullptr, [&](int64_t number, Record record) -> RecordSource::Later {
    const auto hash = record_hash(record);
    const auto group = record.group.empty() ? std::string("-") : group_hash(record.group);
    return [&, number, hash, group, place = record.place] {
      const auto row = static_cast<size_t>(number) < plan.rows.size() ? plan.rows[static_cast<size_t>(number)]
                                                                      : PlannedRow{};
      write_line(hash, group, row, place);
    };
  });
  for (const auto& canary : make_canaries(canaries).planted)
    write_line(record_hash(canary), "-", {Side::train, canaries.times}, canary.place);
  if (next != train.size())
    throw Failure(
        fmt::format("{}: {} of {} training samples have no record; this is a mistake of retort's, "
                    "please report it",
                    file.string(), train.size() - next, train.size()));
  out.commit();
}

void read_record_list(const std::filesystem::path& file,
                      const std::function<void(const ListedRecord&)>& take) {
  const MappedFile mapped(file);
  auto text = mapped.text();
  for (int64_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with('#')) continue;
    ListedRecord record;
    record.hash = cut_field(line), record.group = cut_field(line), record.side = cut_field(line);
    const auto uses = cut_field(line), first = cut_field(line), samples = cut_field(line);
    record.place = line;
    if (!is_record_hash(record.hash) || !number_of(uses, record.uses) || !number_of(first, record.first) ||
        !number_of(samples, record.samples))
      corrupt(file.string(), fmt::format("line {}", number), "is no record of this list");
    take(record);
  }
}

std::set<std::string> read_forget_list(const std::filesystem::path& file) {
  std::set<std::string> hashes;
  if (!std::filesystem::exists(file)) return hashes;  // nothing is to be forgotten yet
  const auto text = read_text(file);
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    auto line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    line.resize(std::min(line.find('#'), line.size()));
    while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back()))) line.pop_back();
    if (line.empty()) continue;
    if (!is_record_hash(line))
      throw RecipeError(
          fmt::format("{}:{}: expected the hash of a record (32 digits of 0-9 and a-f, as `retort "
                      "trace` prints it), found '{}'",
                      printable(file.string()), number, printable(line)));
    hashes.insert(line);
  }
  return hashes;
}

}  // namespace retort
