// A folder that DistillKit wrote: compression_config.yaml and data_0.parquet, data_1.parquet, ... Each row of
// a file is a text: its tokens, and for each of its positions the likeliest tokens after it.
#include "base/error.h"
#include "base/files.h"
#include "import/compressed_row.h"
#include "import/parquet_texts.h"
#include "teacher/scored_texts.h"
#include "teacher/teach_imported.h"

namespace retort {
namespace {

const std::vector<NestedColumn> kPacked = {{"compressed_logprobs", Element::u8},
                                           {"bytepacked_indices", Element::u8}};
const std::vector<NestedColumn> kFitted = {
    {"packed_indices", Element::u64}, {"exact_values", Element::f32}, {"coeffs", Element::f32}};

class DistillKitTexts : public ScoredTexts {
 public:
  DistillKitTexts(std::filesystem::path folder, const CompressionConfig& config, int64_t tokens)
      : packed_(std::holds_alternative<PackedRows>(config)),
        parts_(distillkit_parts(folder)),
        vocabulary_(std::max(tokens, vocabulary_of(config))),
        decoder_(config),
        settler_(config, tokens) {}

  bool next(ScoredText& text) override {
    while (!file_ || !file_->next()) {
      if (part_ == parts_.size()) return false;
      file_ = std::make_unique<ParquetTexts>(parts_[part_++], packed_ ? kPacked : kFitted);
      number_ = 0;
    }
    text.place = fmt::format("text {}", ++number_);
    read_tokens(text);
    read_rows(text);
    return true;
  }

  std::string remarks() const override {
    const auto count = settler_.left_out();
    return count == 0
               ? ""
               : fmt::format("{} ranks name a token twice or one that the student lacks and stay in the rest",
                             count);
  }

 private:
  [[noreturn]] void refuse(const ScoredText& text, const std::string& problem) const {
    corrupt(parts_[part_ - 1].string(), text.place, problem);
  }

  void read_tokens(ScoredText& text) const {
    text.tokens.clear();
    for (const auto token : file_->tokens()) {
      if (token < 0 || token >= vocabulary_)
        refuse(text, fmt::format("token {} of input_ids is {}; the vocabulary has {}", text.tokens.size() + 1,
                                 token, vocabulary_));
      text.tokens.push_back(static_cast<int32_t>(token));
    }
  }

  void read_rows(ScoredText& text) {
    const auto& columns = file_->columns();
    const auto positions = columns[0].size(), tokens = text.tokens.size();
    for (size_t i = 1; i < columns.size(); ++i)
      if (columns[i].size() != positions)
        refuse(text, fmt::format("{} has {} positions, {} has {}", kinds()[0].name, positions,
                                 kinds()[i].name, columns[i].size()));
    if (positions > tokens || positions + 1 < tokens)
      refuse(text, fmt::format("has {} tokens and {} positions; expected as many, or one fewer", tokens,
                               positions));
    text.rows.resize(positions);
    for (size_t p = 0; p < positions; ++p) {
      const auto problem = read_row(p, text.rows[p]);
      if (!problem.empty()) refuse(text, fmt::format("position {}: {}", p + 1, problem));
    }
  }

  std::string read_row(size_t p, TopRow& row) {
    const auto& columns = file_->columns();
    const auto wrong = [&](size_t column, size_t found, size_t expected) {
      return fmt::format("{} has {} elements; compression_config.yaml asks for {}", kinds()[column].name,
                         found, expected);
    };
    if (packed_) {
      const auto values = columns[0].at<uint8_t>(p), ids = columns[1].at<uint8_t>(p);
      if (values.size() != decoder_.value_bytes()) return wrong(0, values.size(), decoder_.value_bytes());
      if (ids.size() != decoder_.id_bytes()) return wrong(1, ids.size(), decoder_.id_bytes());
      decoder_.packed(values, ids, ranks_);
    } else {
      const auto ids = columns[0].at<uint64_t>(p);
      const auto exact = columns[1].at<float>(p), coefficients = columns[2].at<float>(p);
      if (ids.size() != decoder_.id_words()) return wrong(0, ids.size(), decoder_.id_words());
      if (exact.size() != decoder_.exact()) return wrong(1, exact.size(), decoder_.exact());
      if (coefficients.size() != decoder_.coefficients())
        return wrong(2, coefficients.size(), decoder_.coefficients());
      decoder_.fitted(ids, exact, coefficients, ranks_);
    }
    return settler_.settle(ranks_, row);
  }

  const std::vector<NestedColumn>& kinds() const { return packed_ ? kPacked : kFitted; }

  bool packed_;
  std::vector<std::filesystem::path> parts_;
  int64_t vocabulary_;
  RankDecoder decoder_;
  RowSettler settler_;
  std::unique_ptr<ParquetTexts> file_;
  size_t part_ = 0;
  int64_t number_ = 0;
  Ranks ranks_;
};

}  // namespace

std::unique_ptr<ScoredTexts> open_distillkit(const std::filesystem::path& folder,
                                             const StudentTokens& student) {
  const auto file = file_beneath(folder, "compression_config.yaml");
  const auto config = read_compression_config(read_text(file, size_t{1} << 20), file.string());
  // DistillKit itself counts one token more than there are; others count the padding of the matrices.
  const auto vocabulary = vocabulary_of(config);
  if (vocabulary != student.tokens && vocabulary != student.tokens + 1 && vocabulary != student.rows)
    corrupt(
        file.string(), std::holds_alternative<PackedRows>(config) ? "d" : "vocab_size",
        fmt::format("the teacher's vocabulary has {} tokens, the student's {}{}; expected a teacher with the "
                    "student's tokenizer",
                    vocabulary, student.tokens,
                    student.rows == student.tokens ? "" : fmt::format(" (its matrices {})", student.rows)));
  return std::make_unique<DistillKitTexts>(folder, config, student.tokens);
}

}  // namespace retort
