// Tokenized samples in an HDF5 file: the next run reads them back instead of tokenizing again, and training
// takes its samples out of it one by one.
//
//   /tokens     int32   [T]    all samples end to end, training samples first
//   /weights    uint8   [T]    0 or 1
//   /offsets    int64   [S+1]  where each sample begins in tokens
//   /held_out   int64   [H]    for each held-out sample (the last H): the row of its record in the sources
//   /ids        uint8   [B]    sample ids end to end
//   /id_offsets int64   [S+1]
//   /counts     int64   [13]   DatasetCounts
//   attributes of /: format, template, tokenizer, settings, source_0, source_1, ...: what it was made from
//
// Tokens and weights are stored plain, in chunks that are read where they lie; the rest is deflated and held
// in memory, about 40 bytes a sample.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/hdf5_file.h"

namespace retort {

// What a store was made from. Sources by the sha256 of their files.
Provenance provenance(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat);

// What the file keeps: the samples of a Dataset, and the row of each held-out sample's record instead of the
// record.
struct StoredSamples {
  Samples train, held_out;
  std::vector<int64_t> held_out_rows;
  DatasetCounts counts;
};

// Takes samples one by one; nothing is there under `path` before finish(), and equal input gives equal bytes.
class TokenStoreWriter : public SampleSink {
 public:
  explicit TokenStoreWriter(const std::string& path);
  ~TokenStoreWriter() override;
  void add(const Sample& sample) override;  // std::logic_error for weights other than 0 and 1
  void finish(const std::vector<int64_t>& held_out_rows, const DatasetCounts& counts,
              const Provenance& made_from);

 private:
  struct State;
  std::unique_ptr<State> state_;
};
void write_token_store(const std::string& path, const StoredSamples& samples, const Provenance& made_from);

// What HDF5 has to say is read in a confined child process and checked again here, every token and weight
// too; none is kept. FormatError when the file is damaged, hostile (links, external or virtual storage,
// variable-length or compound types, other filters than deflate and shuffle) or made from something else; the
// message says what differs. The samples throw it when the file has changed since.
StoredSamples read_token_store(const std::string& path, const Provenance& made_from, int64_t vocabulary);

// build_dataset() through spec.cache: reads it when it is there, else builds it, piece by piece, and reads
// it. `from_cache` says which.
Dataset load_dataset(const DataSpec& spec, const Tokenizer& tokenizer, const ChatTemplate& chat,
                     bool* from_cache = nullptr, int64_t threads = 0);

}  // namespace retort
