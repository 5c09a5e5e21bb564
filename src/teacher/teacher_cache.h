// What a teacher said about a set of samples, in a folder of HDF5 files. Each part covers a run of whole
// samples and appears whole or not at all, so a killed build continues with the parts that are missing,
// several machines may write parts at the same time, and a cache can be read while it grows. A part's bytes
// depend on nothing but its samples, the teacher and the settings.
//
//   part-00000.h5: /rows uint8: the bits of its positions one after another (sparse_row.h)
//   attributes of /: what it was made from (provenance), part, positions, sha256 of /rows
#pragma once
#include <filesystem>
#include <functional>
#include <optional>

#include "data/hdf5_file.h"
#include "teacher/contexts.h"
#include "teacher/sparse_row.h"

namespace retort {

// What the rows depend on, compared one by one when a cache is opened.
struct TeacherIdentity {
  std::string weights;    // sha256 of the teacher's weight files (LoadedModel::sha256)
  std::string tokenizer;  // Tokenizer::hash()
  std::string chat;       // template's name
  std::string compute;    // f32 or bf16, and how its weights are held
  double temperature = 1;
};
Provenance cache_provenance(const TeacherIdentity& teacher, const Samples& samples, const KeepSpec& keep);

// A part of `plan`, from one bit string a position.
void write_cache_part(const std::filesystem::path& folder, size_t part, const Provenance& made_from,
                      const std::vector<BitWriter>& rows);

class TeacherCache {
 public:
  // Reads the parts that are there. FormatError when one is damaged or was made from something else; the
  // message says what differs.
  TeacherCache(std::filesystem::path folder, const Provenance& made_from, CachePlan plan,
               const KeepSpec& keep, int64_t vocabulary);

  // The kept row, or nullopt for a context that the cache does not have (yet).
  std::optional<SparseRow> find(Context context) const;
  SparseRow at(Context context) const;  // FormatError that says what to run where there is none
  std::vector<size_t> missing_parts() const;
  int64_t positions() const { return positions_; }  // that are there
  int64_t planned_positions() const { return plan_.positions(); }
  uint64_t file_bytes() const { return file_bytes_; }
  int64_t vocabulary() const { return vocabulary_; }
  const KeepSpec& keep() const { return keep_; }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  struct Part {
    std::vector<uint8_t> rows;
    std::vector<uint32_t> begin;  // bit of each position
  };
  std::filesystem::path folder_;
  CachePlan plan_;
  KeepSpec keep_;
  int64_t vocabulary_;
  std::vector<Part> parts_;
  int64_t positions_ = 0;
  uint64_t file_bytes_ = 0;
};

std::filesystem::path cache_part_file(const std::filesystem::path& folder, size_t part);

}  // namespace retort
