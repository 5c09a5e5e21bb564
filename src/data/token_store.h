// Tokenized samples in an HDF5 file: the next run reads them back instead of tokenizing again.
//
//   /tokens     int32   [T]    all samples end to end, training samples first
//   /weights    float32 [T]
//   /offsets    int64   [S+1]  where each sample begins in tokens
//   /held_out   int64   [H]    for each held-out sample (the last H): the index of its record in the sources
//   /ids        uint8   [B]    sample ids end to end
//   /id_offsets int64   [S+1]
//   /counts     int64   [10]   DatasetCounts
//   attributes of /: format, template, tokenizer, settings, source_0, source_1, ...: what it was made from
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/hdf5_file.h"

namespace retort {

// What a store was made from. Sources by the sha256 of their files.
Provenance provenance(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat);

// What the file keeps: the samples of a Dataset, and the record index of each held-out sample instead of the record.
struct StoredSamples {
  std::vector<Sample> train, held_out;
  std::vector<int64_t> held_out_indices;
  DatasetCounts counts;
};

// Appears whole or not at all. Equal input gives equal bytes.
void write_token_store(const std::string& path, const StoredSamples& samples, const Provenance& made_from);

// Reads in a confined child process and checks everything again here. FormatError when the file is damaged, hostile (links,
// external or virtual storage, variable-length or compound types, other filters than deflate and shuffle) or made from
// something else; the message says what differs.
StoredSamples read_token_store(const std::string& path, const Provenance& made_from, int64_t vocabulary);

// build_dataset() through spec.cache: reads it when it is there, else builds and writes it. `from_cache` says which.
Dataset load_dataset(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat, bool* from_cache = nullptr);

}  // namespace retort
