/* Stands in for libcudart.so.13 and libcupti.so.13 beside LibTorch's CPU library. That library names both and
   asks them only when somebody profiles a GPU; the loader wants them, with every function, before main().
   Each function here says that there is no GPU. Compiled twice: RETORT_CUDART, RETORT_CUPTI. */

#ifdef RETORT_CUDART
/* CUDA's own number for "no device". */
enum { no_device = 100 };
#define NONE(name) \
  int name(void) { return no_device; }
NONE(cudaDeviceSynchronize)
NONE(cudaGetDeviceProperties)
int cudaGetDeviceCount(int* count) { return *count = 0, no_device; }
int cudaDriverGetVersion(int* version) { return *version = 0; }
int cudaRuntimeGetVersion(int* version) { return *version = 0; }
const char* cudaGetErrorString(int error) { return error ? "retort's package holds no CUDA" : "no error"; }
#endif

#ifdef RETORT_CUPTI
/* CUPTI's own number for "not initialized". */
enum { not_initialized = 15 };
static const char* const reason = "retort's package holds no CUPTI";
#define NONE(name) \
  int name(void) { return not_initialized; }
NONE(cuptiActivityDisable)
NONE(cuptiActivityEnable)
NONE(cuptiActivityEnableCudaEventDeviceTimestamps)
NONE(cuptiActivityEnableDriverApi)
NONE(cuptiActivityEnableRuntimeApi)
NONE(cuptiActivityFlushAll)
NONE(cuptiActivityGetNextRecord)
NONE(cuptiActivityGetNumDroppedRecords)
NONE(cuptiActivityPopExternalCorrelationId)
NONE(cuptiActivityPushExternalCorrelationId)
NONE(cuptiActivityRegisterCallbacks)
NONE(cuptiActivityRegisterTimestampCallback)
NONE(cuptiActivitySetAttribute)
NONE(cuptiEnableCallback)
NONE(cuptiEnableDomain)
NONE(cuptiFinalize)
NONE(cuptiGetVersion)
NONE(cuptiSubscribe)
NONE(cuptiUnsubscribe)
int cuptiGetCallbackName(int domain, unsigned id, const char** name) {
  (void)domain, (void)id;
  return *name = reason, not_initialized;
}
int cuptiGetResultString(int result, const char** text) {
  (void)result;
  return *text = reason, 0;
}
#endif
