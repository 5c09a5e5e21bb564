// All records of sources in memory, for those that need them so: questions of an evaluation, prompts for a
// teacher.
#include <span>

#include "base/error.h"
#include "base/hash.h"
#include "data/record_plan.h"
#include "data/record_source.h"

namespace retort {

namespace {

ContentKey key_of(std::span<const Message> messages, std::string_view text) {
  Sha256 hash;
  const auto add = [&](std::string_view part) { hash.add(fmt::format("{}:", part.size())).add(part); };
  for (const auto& message : messages) {
    add(message.role);
    add(message.content);
    for (const auto* more : {&message.fields, &message.beside})
      if (!more->empty()) add(*more);
  }
  add(text);
  return content_key(hash);
}

}  // namespace

ContentKey record_key(const Record& record) { return key_of(record.messages, record.text); }

ContentKey prompt_key(const Record& record) {
  const std::span<const Message> messages(record.messages);
  return key_of(messages.first(messages.empty() ? 0 : messages.size() - 1), "");
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
