#include "teacher/teacher_cache.h"

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"

namespace retort {
namespace {

constexpr std::string_view kFormat = "retort teacher cache 1";
const std::vector<Hdf5Dataset> kDatasets = {{"rows", Hdf5Element::u8}};

}  // namespace

std::filesystem::path cache_part_file(const std::filesystem::path& folder, size_t part) {
  return folder / fmt::format("part-{:05}.h5", part);
}

Provenance cache_provenance(const TeacherIdentity& teacher, const Samples& samples, const KeepSpec& keep) {
  return {{"format", std::string(kFormat)},
          {"teacher", teacher.weights},
          {"tokenizer", teacher.tokenizer},
          {"template", teacher.chat},
          {"compute", teacher.compute},
          {"temperature", fmt::format("{}", teacher.temperature)},
          {"samples", samples_hash(samples)},
          {"head", std::to_string(keep.head)},
          {"draws", std::to_string(keep.draws)},
          {"precision", std::to_string(keep.precision)},
          {"part_positions", std::to_string(keep.part_positions)},
          {"seed", std::to_string(keep.seed)}};
}

void write_cache_part(const std::filesystem::path& folder, size_t part, const Provenance& made_from,
                      const std::vector<BitWriter>& rows) {
  BitWriter all;
  for (const auto& row : rows) all.append(row);
  const auto bytes = std::as_bytes(std::span(all.bytes()));
  auto attributes = made_from;
  attributes.emplace_back("part", std::to_string(part));
  attributes.emplace_back("positions", std::to_string(rows.size()));
  attributes.emplace_back("sha256", sha256(bytes));
  make_folder(folder);
  // Packed bits of random numbers: deflate would only cost time.
  write_hdf5(cache_part_file(folder, part).string(), attributes, {{"rows", Hdf5Element::u8, bytes, false}});
}

TeacherCache::TeacherCache(std::filesystem::path folder, const Provenance& made_from, CachePlan plan,
                           const KeepSpec& keep, int64_t vocabulary)
    : folder_(std::move(folder)),
      plan_(std::move(plan)),
      keep_(keep),
      vocabulary_(vocabulary),
      parts_(plan_.parts.size()) {
  std::vector<std::string> names;
  for (const auto& [name, value] : made_from) names.push_back(name);
  for (const auto* name : {"part", "positions", "sha256"}) names.emplace_back(name);
  for (size_t i = 0; i < parts_.size(); ++i) {
    const auto file = cache_part_file(folder_, i).string();
    if (!std::filesystem::exists(file)) continue;
    const auto content = read_hdf5(file, "a teacher cache", names, kDatasets);
    const auto differs = differences(made_from, content.attributes);
    if (!differs.empty())
      corrupt(file, "",
              "was made from something else: " + differs +
                  "; delete the cache or set teacher.cache to another folder");
    const auto attribute = [&](size_t index) { return content.attributes[made_from.size() + index]; };
    const auto planned = plan_.parts[i].positions;
    if (attribute(0) != std::to_string(i))
      corrupt(file, "part", fmt::format("this is part {}; was the file renamed?", printable(attribute(0))));
    if (attribute(1) != std::to_string(planned))
      corrupt(file, "positions", fmt::format("holds {}; expected {}", printable(attribute(1)), planned));
    if (attribute(2) != sha256(std::span<const std::byte>(content.datasets[0])))
      corrupt(file, "rows", "checksum does not match; delete this file and it is made again");
    auto& part = parts_[i];
    part.rows = content.values<uint8_t>(0);
    BitReader in(file, part.rows);
    for (int64_t p = 0; p < planned; ++p) {
      part.begin.push_back(static_cast<uint32_t>(in.position()));
      decode_row(in, keep_, vocabulary_, file);
    }
    if ((in.position() + 7) / 8 != part.rows.size()) corrupt(file, "rows", "holds more than its positions");
    positions_ += planned;
    file_bytes_ += std::filesystem::file_size(file);
  }
}

std::optional<SparseRow> TeacherCache::find(Context context) const {
  const auto found = plan_.position.find(context);
  if (found == plan_.position.end()) return std::nullopt;
  auto part = std::upper_bound(
      plan_.parts.begin(), plan_.parts.end(), found->second,
      [](int64_t position, const CachePlan::Part& each) { return position < each.first_position; });
  const auto index = static_cast<size_t>(part - plan_.parts.begin()) - 1;
  if (parts_[index].begin.empty()) return std::nullopt;
  const auto file = folder_.string();
  BitReader in(file, parts_[index].rows,
               parts_[index].begin[static_cast<size_t>(found->second - plan_.parts[index].first_position)]);
  return decode_row(in, keep_, vocabulary_, file);
}

SparseRow TeacherCache::at(Context context) const {
  auto row = find(context);
  if (!row)
    throw FormatError(
        fmt::format("{}: has no row for a context of these samples ({} of {} positions are there); run "
                    "`retort teach` to complete it",
                    printable(folder_.string()), positions(), planned_positions()));
  return std::move(*row);
}

std::vector<size_t> TeacherCache::missing_parts() const {
  std::vector<size_t> missing;
  for (size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i].begin.empty()) missing.push_back(i);
  return missing;
}

}  // namespace retort
