// The reading side of the token store: what HDF5 says is checked again, and samples are read where they lie.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/stop.h"
#include "base/system_failure.h"
#include "data/packed_samples.h"
#include "data/token_store.h"

namespace retort {
namespace {

const std::vector<Hdf5Dataset> kDatasets = {{"tokens", Hdf5Element::i32, {}, true, true},
                                            {"weights", Hdf5Element::u8, {}, true, true},
                                            {"offsets", Hdf5Element::i64},
                                            {"held_out", Hdf5Element::i64},
                                            {"ids", Hdf5Element::u8},
                                            {"id_offsets", Hdf5Element::i64},
                                            {"counts", Hdf5Element::i64}};
constexpr size_t kTokens = 0, kWeights = 1;

// 0 <= first <= ... <= last == `end`.
void require_offsets(const std::string& path, std::string_view name, const std::vector<int64_t>& offsets,
                     size_t end) {
  if (offsets.empty() || offsets.front() != 0 || offsets.back() < 0 ||
      static_cast<uint64_t>(offsets.back()) != end || !std::is_sorted(offsets.begin(), offsets.end()))
    corrupt(path, name, "does not divide the data");
}

// A file that is read at some places only. Mapped pages would count as this process's memory, and with each
// the kernel maps many around it.
class OpenFile {
 public:
  explicit OpenFile(std::string path) : path_(std::move(path)) {
    do descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (descriptor_ < 0 && errno == EINTR);
    if (descriptor_ < 0 || ::fstat(descriptor_, &opened_) != 0) {
      const int error = errno;
      if (descriptor_ >= 0) ::close(descriptor_);
      throw_reading(printable(path_) + ": cannot be opened", error);
    }
  }
  ~OpenFile() { ::close(descriptor_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  const std::string& path() const { return path_; }
  void require_unchanged() const {
    struct stat now {};
    if (::fstat(descriptor_, &now) != 0) throw_reading(printable(path_) + ": cannot be looked at", errno);
    if (!same(now)) changed();
  }
  // Nobody has put another file in its place.
  void require_in_place() const {
    struct stat now {};
    if (::stat(path_.c_str(), &now) != 0) {
      if (errno == ENOENT) changed();
      throw_reading(printable(path_) + ": cannot be looked at", errno);
    }
    if (!same(now)) changed();
  }
  void read(uint64_t offset, std::span<std::byte> into) const {
    while (!into.empty()) {
      const auto got = ::pread(descriptor_, into.data(), into.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw_writing(printable(path_) + ": cannot be read", errno);
      if (got == 0) changed();
      into = into.subspan(static_cast<size_t>(got));
      offset += static_cast<uint64_t>(got);
    }
  }

 private:
  bool same(const struct stat& now) const {
    return now.st_dev == opened_.st_dev && now.st_ino == opened_.st_ino && now.st_size == opened_.st_size &&
           now.st_mtim.tv_sec == opened_.st_mtim.tv_sec && now.st_mtim.tv_nsec == opened_.st_mtim.tv_nsec;
  }
  [[noreturn]] void changed() const {
    corrupt(path_, "", "changed while it was being read; start again when nothing writes to it");
  }
  std::string path_;
  int descriptor_ = -1;
  struct stat opened_ {};
};

// One data set in its pieces.
template <class Element> class InPlace {
 public:
  InPlace(const OpenFile& file, const std::vector<Hdf5Piece>& pieces) : file_(file), pieces_(pieces) {
    for (const auto& piece : pieces) ends_.push_back(size() + piece.size / sizeof(Element));
  }
  size_t size() const { return ends_.empty() ? 0 : ends_.back(); }

  std::vector<Element> read(size_t begin, size_t end) const {
    std::vector<Element> all(end - begin);
    auto into = std::as_writable_bytes(std::span(all));
    auto piece = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), begin) - ends_.begin());
    while (begin < end) {
      const size_t first = piece == 0 ? 0 : ends_[piece - 1], stop = std::min(end, ends_[piece]);
      const auto bytes = (stop - begin) * sizeof(Element);
      file_.read(pieces_[piece].offset + (begin - first) * sizeof(Element), into.first(bytes));
      into = into.subspan(bytes);
      begin = stop;
      ++piece;
    }
    return all;
  }

 private:
  const OpenFile& file_;
  std::vector<Hdf5Piece> pieces_;
  std::vector<size_t> ends_;
};

class StoredTokens : public SampleStorage {
 public:
  StoredTokens(std::unique_ptr<const OpenFile> file, const Hdf5Content& content, int64_t vocabulary)
      : file_(std::move(file)),
        vocabulary_(vocabulary),
        tokens_(*file_, content.pieces[kTokens]),
        weights_(*file_, content.pieces[kWeights]),
        offsets_(content.values<int64_t>(2)),
        id_offsets_(content.values<int64_t>(5)),
        ids_(content.values<char>(4)) {
    const auto& path = file_->path();
    if (weights_.size() != tokens_.size())
      corrupt(path, "weights", fmt::format("{} values for {} tokens", weights_.size(), tokens_.size()));
    require_offsets(path, "offsets", offsets_, tokens_.size());
    require_offsets(path, "id_offsets", id_offsets_, ids_.size());
    if (offsets_.size() != id_offsets_.size())
      corrupt(path, "id_offsets", "has another number of samples than offsets");
    constexpr size_t kAtOnce = size_t{1} << 20;
    for (size_t begin = 0; begin < tokens_.size(); begin += kAtOnce) {
      leave_if_stopped("checking the token store");
      const auto end = std::min(tokens_.size(), begin + kAtOnce);
      check(begin, tokens_.read(begin, end), weights_.read(begin, end));
    }
    file_->require_in_place();
  }

  size_t size() const override { return offsets_.size() - 1; }
  int64_t tokens(size_t index) const override { return offsets_.at(index + 1) - offsets_.at(index); }

  Sample read(size_t index) const override {
    const auto begin = static_cast<size_t>(offsets_.at(index)),
               end = static_cast<size_t>(offsets_.at(index + 1));
    file_->require_unchanged();
    auto tokens = tokens_.read(begin, end);
    const auto weights = weights_.read(begin, end);
    check(begin, tokens, weights);
    return {std::move(tokens),
            unpacked_weights(weights.data(), weights.size()),
            {ids_.begin() + id_offsets_[index], ids_.begin() + id_offsets_[index + 1]}};
  }

 private:
  void check(size_t begin, const std::vector<int32_t>& tokens, const std::vector<uint8_t>& weights) const {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0 || tokens[i] >= vocabulary_)
        corrupt(file_->path(), "tokens",
                fmt::format("token {} is {}; the vocabulary has {}", begin + i, tokens[i], vocabulary_));
      if (weights[i] > 1)
        corrupt(file_->path(), "weights",
                fmt::format("value {} is {}; expected a weight of 0 or 1", begin + i, weights[i]));
    }
  }

  std::unique_ptr<const OpenFile> file_;
  int64_t vocabulary_;
  InPlace<int32_t> tokens_;
  InPlace<uint8_t> weights_;
  std::vector<int64_t> offsets_, id_offsets_;
  std::vector<char> ids_;
};

}  // namespace

StoredSamples read_token_store(const std::string& path, const Provenance& made_from, int64_t vocabulary) {
  auto file = std::make_unique<const OpenFile>(path);
  std::vector<std::string> names;
  for (const auto& [name, value] : made_from) names.push_back(name);
  const auto differs = differences(made_from, read_hdf5_attributes(path, "a token store", names));
  if (!differs.empty())
    corrupt(
        path, "",
        "was made from something else: " + differs + "; delete the file or set data.cache to another one");

  const auto content = read_hdf5(path, "a token store", {}, kDatasets);
  StoredSamples samples;
  samples.held_out_rows = content.values<int64_t>(3);
  const auto counts = content.values<int64_t>(6);
  if (counts.size() != 13) corrupt(path, "counts", fmt::format("{} values; expected 13", counts.size()));
  samples.counts = {.records = counts[0],
                    .skipped_long = counts[1],
                    .cut = counts[2],
                    .split_pieces = counts[3],
                    .duplicates = counts[4],
                    .repeats = counts[5],
                    .left_out = counts[6],
                    .tokens = counts[7],
                    .supervised = counts[8],
                    .longest = counts[9],
                    .bad = counts[10],
                    .changed_answers = counts[11],
                    .dropped_thoughts = counts[12]};
  const auto held_out = samples.held_out_rows.size();
  const auto stored = std::make_shared<const StoredTokens>(std::move(file), content, vocabulary);
  if (held_out > stored->size()) corrupt(path, "held_out", "more samples held out than there are");
  samples.train = Samples(stored, 0, stored->size() - held_out);
  samples.held_out = Samples(stored, stored->size() - held_out, held_out);
  return samples;
}

}  // namespace retort
