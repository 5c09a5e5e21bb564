#include "recipe/other_tools.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"

namespace retort {

namespace {

constexpr unsigned A = static_cast<unsigned>(Tool::axolotl), L = static_cast<unsigned>(Tool::llama_factory),
                   T = static_cast<unsigned>(Tool::trl);
constexpr bool kCopied = true;

constexpr const char* kOneDevice = "one device computes a model; device says which";
constexpr const char* kRanks =
    "`mpirun -n 4 retort-ranks run RECIPE` divides the texts of a training among processes on CPUs";
constexpr const char* kOwnWork =
    "device, train.threads and train.recompute say how a machine works; the rest is decided by retort";
constexpr const char* kNoHub = "there is no network code: nothing is fetched from a hub or sent to one";
constexpr const char* kNoTracker =
    "there is no network code: every step stands in the run's folder and in its report.html";
constexpr const char* kNoPreferences = "training is on answers, not on preferences or rewards";
constexpr const char* kNoPadding =
    "samples go through the model without padding, and what they begin with "
    "alike is computed once";
constexpr const char* kOneAttention = "attention has one form, chosen for the processor";

// Names as the tools document them: Axolotl's configuration reference, LLaMA-Factory's hparams and examples,
// TRL's SFTConfig, ModelConfig and ScriptArguments, transformers' TrainingArguments.
constexpr OtherKey kKeys[] = {
    // The base.
    {A, "base_model", "model.path", "a folder of safetensors or a .gguf file; nothing is downloaded"},
    {L | T, "model_name_or_path", "model.path",
     "a folder of safetensors or a .gguf file; nothing is downloaded"},
    {A | T, "load_in_4bit", "model.weights", "true is nf4; a .gguf file is kept as it is"},
    {A | T, "load_in_8bit", "model.weights", "true is int8; a .gguf file is kept as it is"},
    {L, "quantization_bit", "model.weights", "4 is nf4 and 8 is int8; a .gguf file is kept as it is"},
    {L, "quantization_type", "model.weights", "nf4; fp4 has no counterpart"},
    {T, "bnb_4bit_quant_type", "model.weights", "nf4; fp4 has no counterpart"},
    {L, "double_quantization", "model.double_quant", "", kCopied},
    {T, "use_bnb_nested_quant", "model.double_quant", "", kCopied},
    {L, "quantization_method quantization_device_map", "",
     "model.weights: keep takes bases that are quantized already as they are"},
    {A, "gptq bnb_config_kwargs model_quantization_config*", "",
     "model.weights: keep takes bases that are quantized already as they are"},
    {T, "bnb_4bit_quant_storage", "", "nf4 has one form"},
    {A | L | T, "bf16 fp16 tf32", "",
     "model.compute: auto takes the faster of f32 and bf16 on this machine; it can be set"},
    {A, "bfloat16 float16 float32 fp8*", "",
     "model.compute: auto takes the faster of f32 and bf16 on this machine; it can be set"},
    {L, "pure_bf16 infer_dtype compute_dtype fp8*", "",
     "model.compute: auto takes the faster of f32 and bf16 on this machine; it can be set"},
    {T, "dtype torch_dtype model_init_kwargs", "",
     "model.compute: auto takes the faster of f32 and bf16 on this machine; model.weights says how the base "
     "is held"},
    {L | T, "bf16_full_eval fp16_full_eval fp16_opt_level fp16_backend half_precision_backend", "",
     "model.compute: auto takes the faster of f32 and bf16 on this machine; it can be set"},
    {A,
     "model_type tokenizer_type tokenizer_config base_model_config cls_model_config processor_type "
     "processor_kwargs type_of_model tokenizer_use_fast tokenizer_legacy tokenizer_use_mistral_common "
     "is_*_derived_model",
     "", "the model's own files say it"},
    {L, "use_fast_tokenizer split_special_tokens", "", "the model's own files say it"},
    {A, "overrides_of_model_config overrides_of_model_kwargs rope_scaling", "",
     "the model's own files say it; what a sample may have is its context"},
    {L, "rope_scaling shift_attn mixture_of_depths", "",
     "the model's own files say it; what a sample may have is its context"},
    {A | L | T, "trust_remote_code", "", "no code of a model is run: families are built in"},
    {A, "revision_of_model", "", kNoHub},
    {L | T, "model_revision cache_dir", "", kNoHub},
    {A, "tokens", "model.add_words", "", kCopied},
    {L, "add_tokens", "model.add_words", "a list instead of commas"},
    {L, "add_special_tokens", "model.add_tokens", "a list instead of commas"},
    {A, "special_tokens", "",
     "the tokens that begin, end and pad are the model's own; model.add_tokens adds others"},
    {T, "eos_token pad_token", "", "the tokens that end and pad are the model's own"},
    {A, "added_tokens_overrides eot_tokens", "", "the token that ends a turn is the template's"},
    {A,
     "resize_token_embeddings_to_32x mean_resizing_embeddings shrink_embeddings embeddings_skip_upcast "
     "fix_untrained_tokens reinit_weights",
     "", "rows are added for model.add_tokens and model.add_words alone, as the mean of the old ones"},
    {L, "resize_vocab new_special_tokens_config init_special_tokens", "",
     "rows are added for model.add_tokens and model.add_words alone, as the mean of the old ones"},
    {L, "upcast_layernorm upcast_lmhead_output", "",
     "model.compute says in which type activations are computed"},
    {A, "fp32_norms fp32_norm_classes", "", "model.compute says in which type activations are computed"},

    // The data.
    {A, "datasets", "data.sources", "each a path on this machine"},
    {T, "datasets", "data.sources", "each a path on this machine"},
    {A, "test_datasets", "data.sources[].use", "a source with use: held_out, the others with use: train"},
    {L, "dataset", "data.sources[].path",
     "names are looked up in dataset_info.json; columns and tags become fields and roles"},
    {L, "eval_dataset", "data.sources[].use", "a source with use: held_out, the others with use: train"},
    {L, "dataset_dir", "data.sources[].path", "the folder of dataset_info.json"},
    {T, "dataset_name", "data.sources[].path", "a file or folder on this machine"},
    {T, "dataset_train_split", "data.sources[].split", "of a folder with several splits"},
    {T, "dataset_test_split", "data.sources[].use",
     "where eval_strategy asks for it: a source with use: held_out"},
    {T, "dataset_config", "", "data.sources[].path names the files themselves"},
    {T, "dataset_text_field", "data.sources[].fields", "{text: its name}"},
    {A, "datasets.path", "data.sources[].path", "a file, a folder or a pattern on this machine"},
    {A | T, "datasets.data_files", "data.sources[].path", "a source for each"},
    {A | T, "datasets.split", "data.sources[].split", "of a folder with several splits"},
    {A, "datasets.type", "data.sources[].kind",
     "chat_template and sharegpt are recognised by their records; alpaca also sets data.template: alpaca; "
     "completion is kind: text; a format of one's own becomes prompt and completion"},
    {A, "datasets.ds_type", "data.sources[].format", "where the file's ending does not say it"},
    {A, "datasets.field", "data.sources[].fields", "{text: its name}"},
    {A, "datasets.field_messages", "data.sources[].fields", "{messages: its name}"},
    {A, "datasets.message_property_mappings datasets.message_field_role datasets.message_field_content",
     "data.sources[].fields", "{role: its name, content: its name}"},
    {A, "datasets.message_field_training", "data.sources[].fields", "{weight: its name}"},
    {A, "datasets.field_thinking", "data.sources[].fields",
     "{reasoning_content: its name}; data.sources[].reasoning says what becomes of thoughts"},
    {A, "datasets.field_tools", "data.sources[].fields", "{tools: its name}"},
    {A, "datasets.roles", "data.sources[].roles", "the other way round: {their word: ours}"},
    {A, "datasets.roles_to_train", "data.train_on.roles", "for all sources together"},
    {A, "datasets.chat_template datasets.conversation datasets.chat_template_jinja", "data.template",
     "for all sources together"},
    {A, "datasets.train_on_eos datasets.train_on_eot", "",
     "the token that ends an answer is learned with it, others are not"},
    {A, "datasets.message_field_training_detail", "", "a message is learned as a whole or not at all"},
    {A, "datasets.drop_system_message", "", "system messages are read as they are"},
    {A, "datasets.split_thinking datasets.template_thinking_key", "",
     "data.sources[].reasoning says what becomes of thoughts"},
    {A, "datasets.shards datasets.shards_idx datasets.preprocess_shards", "",
     "data.sources[].limit takes some records, chosen by hash"},
    {A | T, "datasets.name datasets.data_dir datasets.columns", "",
     "data.sources[].path names the files themselves"},
    {A, "datasets.revision datasets.trust_remote_code", "", kNoHub},
    {T, "datasets.path", "data.sources[].path", "a file or folder on this machine"},
    {T, "datasets.fraction", "", "data.sources[].weight says how often a source is used in an epoch"},
    {A, "pretraining_dataset", "data.sources",
     "a source of kind: text; records are read again in every epoch"},
    {A, "val_set_size", "data.held_out.fraction data.held_out.count", "below 1 a share, else a number"},
    {L, "val_size", "data.held_out.fraction data.held_out.count", "below 1 a share, else a number"},
    {T, "test_split_size", "data.held_out.fraction data.held_out.count", "below 1 a share, else a number"},
    {A, "sequence_len", "data.sample_tokens", "", kCopied},
    {L, "cutoff_len", "data.sample_tokens", "", kCopied},
    {T, "max_length max_seq_length", "data.sample_tokens", "the tokens of a sample"},
    {A, "excess_length_strategy", "data.length", "drop is skip, truncate is cut, raise is error"},
    {T, "truncation_mode", "data.keep",
     "keep_start is start, keep_end is end; answers are never cut, but for plain texts"},
    {A, "train_on_inputs", "data.loss", "true is all"},
    {L, "train_on_prompt", "data.loss", "true is all"},
    {L, "mask_history", "data.loss", "true is last_answer"},
    {T, "assistant_only_loss", "data.loss",
     "true is completion; false, its default, learns every token: all"},
    {T, "completion_only_loss", "data.loss", "true is completion, false is all"},
    {A, "chat_template", "data.template", "tokenizer_default is auto; for others the built-in of that name"},
    {L, "template", "data.template",
     "the built-in of that name where there is one, else auto: the model's own template"},
    {A, "chat_template_jinja", "data.template", "the text, or a file that holds it"},
    {T, "chat_template_path", "data.template", "a file that holds it"},
    {A, "chat_template_kwargs", "data.template_arguments", "", kCopied},
    {L, "enable_thinking", "data.template_arguments", "{enable_thinking: true or false}"},
    {L, "preserve_thinking tool_format", "", "the template writes thoughts and tools as it does for answers"},
    {A, "default_system_message", "data.sources[].system", "put before records that bring none"},
    {L, "default_system", "data.sources[].system", "put before records that bring none"},
    {L, "max_samples", "data.sources[].limit", "chosen by hash"},
    {L, "mix_strategy interleave_probs", "",
     "data.sources[].weight says how often a source is used in an epoch"},
    {A, "dataset_exact_deduplication", "data.near_duplicates.remove",
     "with similarity: 1: records whose runs of 5 words are all common"},
    {A,
     "dataset_prepared_path dataset_processes dataset_num_proc dataset_keep_in_memory dataset_shard_* "
     "skip_prepare_dataset num_dataset_shards_to_save push_dataset_to_hub streaming* "
     "preprocess_iterable pretrain_multipack_*",
     "", "records are read from their files and held as tokens; data.cache keeps the tokens in an HDF5 file"},
    {L,
     "tokenized_path overwrite_cache preprocessing_* streaming buffer_size data_shared_file_system "
     "media_dir dataset_map_batch_size",
     "", "records are read from their files and held as tokens; data.cache keeps the tokens in an HDF5 file"},
    {T, "dataset_num_proc dataset_kwargs dataset_streaming streaming dataset_batch_size", "",
     "records are read from their files and held as tokens; data.cache keeps the tokens in an HDF5 file"},
    {A,
     "shuffle_merged_datasets shuffle_before_merging_datasets curriculum_sampling "
     "sample_packing_sequentially",
     "", "samples are shuffled for every epoch, by train.seed"},
    {L, "disable_shuffling", "", "samples are shuffled for every epoch, by train.seed"},
    {T, "shuffle_dataset", "", "samples are shuffled for every epoch, by train.seed"},
    {L | T, "data_seed", "", "train.seed shuffles; data.seed names the split"},
    {A | L | T, "group_by_length length_column_name remove_unused_columns label_names", "", kNoPadding},
    {A, "sample_packing", "train.batch.tokens",
     "packing fills rows to sequence_len: a step then has micro_batch_size x gradient_accumulation_steps x "
     "sequence_len tokens, of whole samples and without padding"},
    {L, "packing neat_packing", "train.batch.tokens",
     "packing fills rows to cutoff_len: a step then has so many tokens, of whole samples that do not see "
     "each other"},
    {T, "packing", "train.batch.tokens",
     "packing fills rows to max_length: a step then has so many tokens, of whole samples that do not see "
     "each other"},
    {A,
     "eval_sample_packing pad_to_sequence_len pad_to_multiple_of sample_packing_* batch_flattening "
     "multipack_real_batches "
     "eval_sequence_len min_sample_len max_packed_sequence_len pretraining_sample_concatenation use_pose "
     "pose_*",
     "", kNoPadding},
    {T, "padding_free pad_to_multiple_of eval_packing packing_strategy", "", kNoPadding},
    {L, "ignore_pad_token_for_loss block_diag_attn model_max_length", "", kNoPadding},

    // What is trained.
    {A, "adapter", "adapter.kind", "lora; qlora is lora over model.weights: nf4; without it full"},
    {L, "finetuning_type", "adapter.kind", "lora or full"},
    {T, "use_peft", "adapter.kind", "true is lora, false is full"},
    {A | T, "lora_r", "adapter.rank", "", kCopied},
    {L, "lora_rank", "adapter.rank", "", kCopied},
    {A | L | T, "lora_alpha", "adapter.alpha", "", kCopied},
    {A | L | T, "lora_dropout", "adapter.dropout", "", kCopied},
    {A, "lora_target_linear", "adapter.targets", "true is [all]"},
    {A | T, "lora_target_modules", "adapter.targets", "a list of names; all-linear is [all]"},
    {L, "lora_target", "adapter.targets", "a list instead of commas; all is [all]"},
    {A | T, "lora_target_parameters", "", "experts are adapted by adapter.targets: [all]"},
    {A | T, "lora_modules_to_save", "adapter.modules_to_save", "", kCopied},
    {L, "additional_target", "adapter.modules_to_save", "a list instead of commas"},
    {A, "peft_use_dora", "adapter.kind", "true is dora"},
    {L | T, "use_dora", "adapter.kind", "true is dora"},
    {A, "peft_use_rslora", "adapter.kind", "true is rslora"},
    {L | T, "use_rslora", "adapter.kind", "true is rslora"},
    {A, "lora_model_dir", "adapter.from",
     "a folder on this machine; its rank, alpha and targets are taken from there"},
    {L, "adapter_name_or_path", "adapter.from",
     "a folder on this machine, of several the last; its rank, alpha and targets are taken from there"},
    {A, "peft_trainable_token_indices", "adapter.trainable_tokens", "a list of ids"},
    {A | L, "loraplus_lr_ratio", "train.optimizer.lora_plus_ratio", "", kCopied},
    {A | L, "loraplus_lr_embedding", "", "train.optimizer.lora_plus_ratio holds for all of the adapter"},
    {A,
     "peft_init_lora_weights peft lora_fan_in_fan_out peft_ensure_weight_tying peft_autocast_adapter_dtype",
     "", "an adapter begins with B at zero, in fp32"},
    {L, "pissa_* create_new_adapter adapter_folder", "", "an adapter begins with B at zero, in fp32"},
    {T, "lora_task_type", "", "models write text; there are no other tasks"},
    {A,
     "peft_layers_to_transform peft_layers_pattern peft_layer_replication lora_rank_pattern "
     "lora_alpha_pattern relora* lisa_* unfrozen_parameters jagged_restart_* freeze_mm_modules",
     "", "adapter.targets chooses layers by the end of their names, with one rank for all"},
    {L,
     "freeze_trainable_* freeze_extra_modules use_llama_pro oft_* module_dropout use_badam badam_* "
     "use_galore galore_* use_apollo apollo_* freeze_vision_tower freeze_multi_modal_projector "
     "freeze_language_model",
     "", "adapter.kind is lora, rslora, dora or full"},
    {A,
     "lora_on_cpu lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel "
     "qlora_sharded_model_loading",
     "", "kernels are chosen for the processor"},

    // How it is trained.
    {A, "num_epochs", "train.epochs", "fractions of a pass too"},
    {L | T, "num_train_epochs", "train.epochs", "fractions of a pass too"},
    {A | L | T, "max_steps", "train.steps", "above 0 it goes before the epochs"},
    {A, "micro_batch_size", "train.batch.samples",
     "times gradient_accumulation_steps: what goes through memory at a time is retort's to choose"},
    {L | T, "per_device_train_batch_size", "train.batch.samples",
     "times gradient_accumulation_steps: what goes through memory at a time is retort's to choose"},
    {A | L | T, "gradient_accumulation_steps", "train.batch.samples",
     "times the batch of a device, and times the devices there"},
    {A, "batch_size", "train.batch.samples", "the samples of one optimizer step"},
    {A | L | T, "auto_find_batch_size", "", "train.memory: 16GiB chooses what fits"},
    {A | L | T, "learning_rate", "train.optimizer.learning_rate", "", kCopied},
    {A | L | T, "weight_decay", "train.optimizer.weight_decay", "", kCopied},
    {A | L | T, "max_grad_norm", "train.optimizer.clip_norm", "", kCopied},
    {A | L | T, "adam_epsilon", "train.optimizer.epsilon", "", kCopied},
    {A | L | T, "adam_beta1 adam_beta2", "train.optimizer.betas", "[adam_beta1, adam_beta2]"},
    {A, "optimizer", "train.optimizer.kind",
     "every AdamW is adamw, those of 8 bits are adamw8bit; sgd and lion; others have no counterpart"},
    {L | T, "optim", "train.optimizer.kind",
     "every AdamW is adamw, those of 8 bits are adamw8bit; sgd and lion; others have no counterpart"},
    {A, "lr_scheduler", "train.schedule.kind",
     "cosine, linear and constant; warmup_stable_decay is wsd; others have no counterpart"},
    {L | T, "lr_scheduler_type", "train.schedule.kind",
     "cosine, linear and constant; warmup_stable_decay is wsd; others have no counterpart"},
    {A | L | T, "lr_scheduler_kwargs", "train.schedule.final_share", "min_lr_rate and min_lr_ratio"},
    {A, "cosine_min_lr_ratio", "train.schedule.final_share", "", kCopied},
    {A | L | T, "warmup_steps", "train.schedule.warmup_steps", "below 1 it is train.schedule.warmup_share"},
    {A | L | T, "warmup_ratio", "train.schedule.warmup_share", "a share of all steps: 0.03 or 3%"},
    {A | L | T, "seed", "train.seed", "", kCopied},
    {A | L | T, "neftune_noise_alpha", "train.neftune_alpha", "", kCopied},
    {A, "noisy_embedding_alpha", "train.neftune_alpha", "", kCopied},
    {A | L | T, "gradient_checkpointing", "train.recompute",
     "less memory for a third more time; the result is the same"},
    {A,
     "gradient_checkpointing_kwargs activation_offloading layer_offloading selective_checkpointing "
     "tiled_mlp*",
     "", "train.recompute or train.memory"},
    {L, "disable_gradient_checkpointing use_reentrant_gc use_unsloth_gc gradient_checkpointing_kwargs", "",
     "train.recompute or train.memory"},
    {T, "gradient_checkpointing_kwargs activation_offloading", "", "train.recompute or train.memory"},
    {A,
     "optim_args optim_target_modules torchdistx_path adam_epsilon2 adam_beta3 dion_* qgalore_* "
     "embedding_lr embedding_lr_scale lr_groups lr_div_factor lr_quadratic_warmup cosine_constant_lr_ratio",
     "", "train.optimizer and train.schedule hold for all that is trained"},
    {L | T, "optim_args optim_target_modules adafactor", "",
     "train.optimizer and train.schedule hold for all that is trained"},
    {L, "use_adam_mini use_muon", "", "train.optimizer.kind is adamw, adamw8bit, sgd or lion"},
    {A, "use_eaft eaft_*", "", "the loss is cross-entropy; distill: learns from a teacher"},
    {L, "use_dft_loss use_asft_loss asft_alpha use_eaft_loss eaft_alpha", "",
     "the loss is cross-entropy; distill: learns from a teacher"},
    {T, "loss_type", "", "the loss is cross-entropy; distill: learns from a teacher"},
    {L | T, "label_smoothing_factor", "", "the loss is cross-entropy; distill: learns from a teacher"},
    {A | L | T, "router_aux_loss_coef moe_aux_loss_coef", "",
     "there is no load-balancing loss; the router is frozen unless it is trained by name"},
    {A | L | T, "eval_steps", "train.evaluate.every", "below 1 it is a share of the steps: no counterpart"},
    {A | L | T, "eval_strategy evaluation_strategy", "train.evaluate.every",
     "steps; epoch is train.evaluate.per_epoch: 1"},
    {A, "evals_per_epoch", "train.evaluate.per_epoch", ""},
    {A | L | T, "save_steps", "train.checkpoint.every", "below 1 it is a share of the steps: no counterpart"},
    {A | L | T, "save_strategy", "train.checkpoint.every", "no is 0; epoch is train.checkpoint.per_epoch: 1"},
    {A, "saves_per_epoch", "train.checkpoint.per_epoch", ""},
    {A | L | T, "save_total_limit", "train.checkpoint.keep_last", "", kCopied},
    {A | L | T, "load_best_model_at_end", "train.evaluate.keep_best", "", kCopied},
    {A, "early_stopping_patience", "train.evaluate.patience", "", kCopied},
    {L, "early_stopping_steps", "train.evaluate.patience", "", kCopied},
    {A | L | T, "metric_for_best_model greater_is_better", "",
     "train.evaluate goes by the held-out loss; gate: bounds other scores"},
    {A, "loss_watchdog_threshold loss_watchdog_patience", "",
     "train.bad_steps gives up after steps whose loss is not finite"},
    {A, "eval_batch_size", "", "held-out passes take eval.pass_tokens tokens at a time"},
    {L | T,
     "per_device_eval_batch_size eval_accumulation_steps eval_delay eval_on_start "
     "prediction_loss_only eval_do_concat_batches batch_eval_metrics include_for_metrics",
     "", "held-out passes take eval.pass_tokens tokens at a time"},
    {A,
     "do_causal_lm_eval eval_causal_lm_metrics do_bench_eval bench_* eval_table_size eval_max_new_tokens "
     "generate_samples num_generation_samples generation_*",
     "", "eval.tasks says what is measured, before and after the training"},
    {L,
     "predict_with_generate compute_accuracy eval_on_each_dataset eval_num_beams do_sample temperature "
     "top_p top_k num_beams max_new_tokens max_length repetition_penalty length_penalty "
     "skip_special_tokens",
     "", "eval.tasks says what is measured, before and after the training"},
    {L | T, "do_train do_eval do_predict", "", "`retort run`, `retort train` and `retort eval` say it"},

    // What is written.
    {A | L | T, "output_dir", "run.folder", "", kCopied},
    {A, "merge_lora", "export.merged", "true is bf16"},
    {A,
     "merge_method save_safetensors save_only_model save_first_step dynamic_checkpoint "
     "tokenizer_save_jinja_files",
     "", "export: says what is written, and a run keeps what it needs to go on"},
    {L, "export_* overwrite_output_dir save_only_model save_safetensors plot_loss", "",
     "export: says what is written, and a run keeps what it needs to go on"},
    {T, "save_safetensors save_only_model overwrite_output_dir", "",
     "export: says what is written, and a run keeps what it needs to go on"},
    {L | T, "save_on_each_node restore_callback_states_from_checkpoint enable_jit_checkpoint", "",
     "export: says what is written, and a run keeps what it needs to go on"},
    {A | L | T, "resume_from_checkpoint", "", "the same command goes on where a run was stopped"},
    {A, "auto_resume_from_checkpoints", "", "the same command goes on where a run was stopped"},
    {L | T, "ignore_data_skip", "", "the same command goes on where a run was stopped"},
    {A | L | T, "hub_* push_to_hub*", "", kNoHub},
    {A, "hf_use_auth_token", "", kNoHub},
    {L, "hf_hub_token ms_hub_token om_hub_token", "", kNoHub},
    {A,
     "wandb_* use_wandb use_mlflow mlflow_* hf_mlflow_log_artifacts use_comet comet_* use_tensorboard "
     "use_trackio trackio_* use_otel_metrics otel_* logging_steps include_tokens_per_second include_tkps "
     "gradio_*",
     "", kNoTracker},
    {L, "use_swanlab swanlab_* include_effective_tokens_per_second print_param_status", "", kNoTracker},
    {L | T,
     "report_to run_name project trackio_* logging_* log_* disable_tqdm include_num_input_tokens_seen "
     "include_tokens_per_second",
     "", kNoTracker},
    {A, "profiler_steps profiler_steps_start", "", "`retort run RECIPE --profile` shows where the time goes"},
    {L, "enable_torch_profiler profiler_* profile_modules skip_memory_metrics debug", "",
     "`retort run RECIPE --profile` shows where the time goes"},
    {T, "skip_memory_metrics debug", "", "`retort run RECIPE --profile` shows where the time goes"},

    // Machines, kernels.
    {A,
     "flash_attention xformers_attention sdp_attention flex_attention eager_attention sage_attention "
     "attn_implementation flash_attn_* flex_attn_* flash_optimum s2_attention sdpa_varlen "
     "fused_attn_kernel large_head_attention gemma4_hybrid_attn_impl scaling_softmax*",
     "", kOneAttention},
    {L, "flash_attn use_kv_cache", "", kOneAttention},
    {T, "attn_implementation use_flash_attention_2", "", kOneAttention},
    {A,
     "unsloth_* liger_* plugins torch_compile* use_kernels experts_implementation quantize_moe_experts "
     "chunked_cross_entropy* cut_cross_entropy* llama4_linearized_experts use_onebitllms",
     "", "kernels are chosen for the processor"},
    {L,
     "use_unsloth enable_liger_kernel use_v1_kernels torch_compile* use_kt kt_* use_liger_kernel "
     "liger_kernel_config",
     "", "kernels are chosen for the processor"},
    {T, "use_liger_kernel liger_kernel_config torch_compile* use_kernels", "",
     "kernels are chosen for the processor"},
    {A, "device", "device", "cpu, cuda or cuda:N"},
    {A | L, "device_map", "device", "one device computes a model: cpu, cuda or cuda:N"},
    {L | T, "use_cpu no_cuda", "device", "true is cpu"},
    {A,
     "deepspeed deepcompile fsdp* dp_* max_memory gpu_memory_limit tensor_parallel_size "
     "context_parallel_size sequence_parallel_degree heads_k_stride ring_attn_func",
     "", kOneDevice},
    {L,
     "deepspeed fsdp* use_mca mca_* use_megatron_bridge megatron_* use_hyper_parallel hyper_parallel_* "
     "offload_folder parallelism_config mp_parameters",
     "", kOneDevice},
    {T, "deepspeed fsdp* parallelism_config mp_parameters _n_gpu", "", kOneDevice},
    {A, "ddp* local_rank world_size use_ray ray_* resources_per_worker", "", kRanks},
    {L,
     "ddp* local_rank use_ray ray_* resources_per_worker placement_strategy master_addr master_port "
     "average_tokens_across_devices",
     "", kRanks},
    {T, "ddp* local_rank num_processes num_machines ray_scope average_tokens_across_devices", "", kRanks},
    {A,
     "accelerator_config low_cpu_mem_usage experimental_skip_move_to_device gc_steps gc_collect_steps "
     "torch_empty_cache_steps dataloader_* cloud env",
     "", kOwnWork},
    {L,
     "torchdynamo dataloader_* accelerator_config low_cpu_mem_usage torch_empty_cache_steps "
     "full_determinism tpu_* past_index split_batches use_ipex use_mps_device jit_mode_eval",
     "", kOwnWork},
    {T,
     "dataloader_* accelerator_config accelerate_config torch_empty_cache_steps ignore_bias_buffers env "
     "full_determinism tpu_* past_index split_batches use_ipex use_mps_device jit_mode_eval torchdynamo",
     "", kOwnWork},
    {L, "infer_backend vllm_* sglang_*", "", "generation is retort's own"},

    // Other work.
    {A,
     "rl trl vllm ebft reward_model process_reward_model center_rewards_coefficient num_labels dpo_* "
     "orpo_alpha simpo_gamma cpo_alpha kto_* rl_beta rpo_alpha precompute_ref_log_probs max_prompt_len",
     "", kNoPreferences},
    {L, "stage", "data.sources[].kind", "sft, or pt: kind: text; the others train on preferences or rewards"},
    {L, "pref_* dpo_* kto_* simpo_gamma ppo_* ref_model* reward_model* ld_alpha", "", kNoPreferences},
    {A, "qat quantization", "", "export.gguf writes quantized files; none is learned quantized"},
    {L, "image_* video_* crop_to_patches use_audio_in_video audio_sampling_rate", "",
     "of multimodal models the text part is trained"},
    {A,
     "strict axolotl_config_path trainer_cls is_preprocess total_num_tokens total_supervised_tokens "
     "sample_packing_eff_est",
     "", "it is about the program itself"},
    {L, "batch_size train_from_scratch task task_dir lang n_shot save_dir download_mode", "",
     "it is about another command"},
};

bool fits(std::string_view pattern, std::string_view key) {
  const auto star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == key;
  const auto begin = pattern.substr(0, star), end = pattern.substr(star + 1);
  return key.size() >= begin.size() + end.size() && key.starts_with(begin) && key.ends_with(end);
}

bool has_key(const OtherKey& row, std::string_view key, bool patterns) {
  for (const auto& one : words_of(row.keys))
    if ((one.find('*') != std::string::npos) == patterns && fits(one, key)) return true;
  return false;
}

// The first row for which `wanted` holds; those that name the key go before those with a pattern.
template <class Wanted> const OtherKey* find_row(std::string_view key, const Wanted& wanted) {
  for (const bool patterns : {false, true})
    for (const auto& row : kKeys)
      if (has_key(row, key, patterns) && wanted(row)) return &row;
  return nullptr;
}

std::string listed(const std::vector<std::string>& words, const char* last) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? last : ", ") + words[i];
  return text;
}

// Of all tools that have the key with the same counterpart.
std::string owners(const OtherKey& row, std::string_view key) {
  std::vector<std::string> names;
  for (const auto tool : kTools) {
    const auto* own = find_other_key(tool, key);
    if (own && std::string_view(own->ours) == row.ours) names.emplace_back(name_of(tool));
  }
  return listed(names, " and ");
}

std::string statement(const OtherKey& row, std::string_view key, bool with_note) {
  const auto whose = fmt::format("{} of {}", printable(key), owners(row, key));
  if (*row.ours == '\0') return fmt::format("{} has no counterpart here: {}", whose, row.note);
  return fmt::format("{} is {} here{}{}", whose, listed(words_of(row.ours), " or "),
                     with_note && *row.note ? ": " : "", with_note ? row.note : "");
}

std::string markdown(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|' || c == '<' || c == '*') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string code_list(const std::vector<std::string>& words) {
  std::vector<std::string> marked;
  for (const auto& word : words) marked.push_back("`" + word + "`");
  return listed(marked, ", ");
}

}  // namespace

const char* name_of(Tool tool) {
  return tool == Tool::axolotl ? "Axolotl" : tool == Tool::trl ? "TRL" : "LLaMA-Factory";
}

const char* word_of(Tool tool) {
  return tool == Tool::axolotl ? "axolotl" : tool == Tool::trl ? "trl" : "llama-factory";
}

std::optional<Tool> tool_named(std::string_view word) {
  for (const auto tool : kTools)
    if (word == word_of(tool)) return tool;
  return std::nullopt;
}

std::span<const OtherKey> other_keys() { return kKeys; }

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find(' ', begin), text.size());
    if (end > begin) words.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

const OtherKey* find_other_key(Tool tool, std::string_view key) {
  return find_row(key, [&](const OtherKey& row) { return row.of(tool); });
}

WhoseKeys whose_keys(const std::vector<std::string>& keys) {
  constexpr int kCount = static_cast<int>(std::size(kTools));
  int own[kCount] = {};
  bool of_trl = false;
  WhoseKeys found;
  for (const auto& key : keys) {
    int owners = 0, last = 0;
    for (int i = 0; i < kCount; ++i)
      if (find_other_key(kTools[i], key)) ++owners, last = i, of_trl |= kTools[i] == Tool::trl;
    if (owners == 1) ++own[last];
    if (owners > 0) ++found.known;
  }
  int best = 0, ties = 0;
  for (int i = 1; i < kCount; ++i) {
    if (own[i] > own[best]) best = i, ties = 0;
    else if (own[i] == own[best]) ++ties;
  }
  found.own = own[best];
  if (found.own > 0 && ties == 0) found.tool = kTools[best];
  // Keys of transformers' TrainingArguments alone, which LLaMA-Factory has too, with keys of its own.
  else if (found.own == 0 && of_trl) found.tool = Tool::trl;
  return found;
}

std::string counterpart(std::string_view section, std::string_view key, bool with_ours) {
  const auto wanted = [&](const OtherKey& row) { return !with_ours || *row.ours != '\0'; };
  if (section.starts_with("data.sources")) {
    const auto inside = "datasets." + std::string(key);
    if (const auto* row = find_row(inside, wanted)) return statement(*row, inside, true);
  }
  const auto* row = find_row(key, wanted);
  return row ? statement(*row, key, *row->ours == '\0') : "";
}

OtherKeyLook explain_other_key(std::string_view key) {
  OtherKeyLook look;
  std::vector<const OtherKey*> told;
  for (const auto& name : {std::string(key), "datasets." + std::string(key)}) {
    for (const auto tool : kTools) {
      const auto* row = find_other_key(tool, name);
      if (!row) continue;
      bool new_one = true;
      for (const auto* earlier : told) new_one &= std::string_view(earlier->ours) != row->ours;
      if (!new_one) continue;
      told.push_back(row);
      look.text += statement(*row, name, true) + "\n";
      for (auto& path : words_of(row->ours)) look.ours.push_back(std::move(path));
    }
  }
  return look;
}

std::string other_keys_table(Tool tool) {
  std::string with, without;
  for (const auto& row : kKeys) {
    if (!row.of(tool)) continue;
    const auto theirs = code_list(words_of(row.keys));
    if (*row.ours != '\0')
      with += fmt::format("| {} | {} | {} |\n", theirs, code_list(words_of(row.ours)), markdown(row.note));
    else without += fmt::format("| {} | {} |\n", theirs, markdown(row.note));
  }
  return fmt::format(
      "| {0} | retort | |\n|---|---|---|\n{1}\nWithout a counterpart:\n\n| {0} | why |\n|---|---|\n{2}",
      name_of(tool), with, without);
}

std::string other_tools_page() {
  std::string text =
      "# From Axolotl, LLaMA-Factory or TRL\n\n"
      "Written by `retort explain --from all`; a test compares this file with the program.\n\n"
      "    retort init --from axolotl.yaml\n\n"
      "translates a recipe of one of them into one of retort, with the key that each value came from beside "
      "it: Axolotl's YAML, LLaMA-Factory's YAML or JSON, the YAML of\n"
      "`trl sft --config`, or the JSON of TRL's `SFTConfig` and transformers' `TrainingArguments`. Which of "
      "them a file is, its keys say; `--kind axolotl`, `llama-factory` or `trl` says it\n"
      "where they do not. What the other tool does where the file says nothing is written too, where it is "
      "not what retort does. Keys without a counterpart stand at the end of the recipe,\n"
      "each with its reason, and on the terminal; none is dropped. What has to be looked at begins with LOOK "
      "HERE: a model or a data set that has the name of one on a hub, for example,\n"
      "since nothing is downloaded. `--model` names the base, and a file or folder behind `init` the "
      "data:\n\n"
      "    retort init cases.jsonl --from axolotl.yaml --model checkpoints/llama-3.2-1b -o cases.yaml\n"
      "    retort check cases.yaml\n\n"
      "A key of theirs in a recipe of retort is an error that names ours: `max_steps of Axolotl, "
      "LLaMA-Factory and TRL is train.steps here`. `retort explain max_steps` says the same.\n"
      "`datasets.type` is the key `type` of an entry of `datasets`; `wandb_*` is every key that begins so. "
      "Our keys are explained in [recipe-reference.md](recipe-reference.md).\n";
  for (const auto tool : kTools) text += fmt::format("\n## {}\n\n{}", name_of(tool), other_keys_table(tool));
  return text;
}

}  // namespace retort
