// All records of sources in memory, for those that need them so: questions of an evaluation, prompts for a
// teacher.
#include "base/error.h"
#include "base/hash.h"
#include "data/record_plan.h"
#include "data/record_source.h"

namespace retort {

ContentKey record_key(const Record& record) {
  Sha256 hash;
  const auto add = [&](std::string_view text) { hash.add(fmt::format("{}:", text.size())).add(text); };
  for (const auto& message : record.messages) {
    add(message.role);
    add(message.content);
  }
  add(record.text);
  return content_key(hash);
}

std::vector<Record> read_records(const DataSpec& spec, std::vector<RejectionCounts>* rejections) {
  const SourceFiles files(spec.sources);
  const auto plan = plan_records(spec, files);
  if (rejections) rejections->insert(rejections->end(), plan.rejections.begin(), plan.rejections.end());
  std::vector<int64_t> rows;
  for (size_t row = 0; row < plan.rows.size(); ++row)
    if (plan.rows[row].side != Side::none) rows.push_back(static_cast<int64_t>(row));
  return records_of_rows(files, rows, spec.sources[0].path);
}

std::vector<Record> read_records(const SourceSpec& source, int32_t index,
                                 std::vector<RejectionCounts>* rejections) {
  DataSpec spec;
  spec.sources = {source};
  spec.sources[0].limit = 0;
  auto records = read_records(spec, rejections);
  for (auto& record : records) record.source = index;
  return records;
}

}  // namespace retort
